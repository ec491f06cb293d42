// SPDX-License-Identifier: Apache-2.0
//
// Token streams in memory, and small runs, for the tests of training.
#pragma once

#include <mor/train/trainer.hpp>

#include <unit/model/small_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mor::test {

/// A stream that lies in memory and remembers where it was read.
class TokenText {
public:
    explicit TokenText(std::vector<TokenId> tokens, std::string name = "text")
        : tokens_{std::move(tokens)}, name_{std::move(name)} {}

    [[nodiscard]] Index size() const { return std::ssize(tokens_); }
    [[nodiscard]] const std::string& name() const { return name_; }
    void read(Index offset, std::span<TokenId> out) const {
        check<ShapeError>(offset >= 0 && offset <= size() - std::ssize(out), name_,
                          ": read beyond the end");
        std::copy_n(tokens_.begin() + offset, out.size(), out.begin());
        reads_.push_back(offset);
    }

    [[nodiscard]] TokenRange all() const { return {0, size()}; }
    [[nodiscard]] const std::vector<Index>& reads() const { return reads_; }

private:
    std::vector<TokenId> tokens_;
    std::string name_;
    mutable std::vector<Index> reads_;
};
static_assert(TokenStream<TokenText>);

/// `count` random tokens of the vocabulary of small_config().
[[nodiscard]] inline TokenText random_text(Index count, std::uint64_t seed = 1) {
    return TokenText{random_sequences({count}, 29, seed).tokens};
}

/// The same 11 tokens again and again: nothing to learn but their order.
[[nodiscard]] inline TokenText repeating_text(Index count) {
    const std::vector<TokenId> pattern{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 28};
    std::vector<TokenId> tokens;
    for (Index i = 0; i < count; ++i) {
        tokens.push_back(pattern[static_cast<std::size_t>(i) % pattern.size()]);
    }
    return TokenText{tokens};
}

/// All parameters one after another.
template <class M>
[[nodiscard]] auto weights_of(const M& model) {
    std::vector<typename M::BackendType::Element> all;
    model.visit_parameters([&](const auto& parameter) {
        const auto values = to_host(parameter.value());
        all.insert(all.end(), values.begin(), values.end());
    });
    return all;
}

/// The L2 norm of all gradients that the model's group has, summed by hand.
template <class M>
[[nodiscard]] double gradient_norm(const M& model) {
    double squares = 0;
    model.visit_parameters([&](const auto& parameter) {
        if (parameter.group() == OptimizerGroup::model) {
            for (const double x : to_host(parameter.gradient())) {
                squares += x * x;
            }
        }
    });
    return std::sqrt(squares);
}

/// All moments of an optimiser one after another.
template <Backend B>
[[nodiscard]] auto moments_of(const AdamW<B>& optimizer) {
    std::vector<typename B::Element> all;
    for (const auto& moments : optimizer.moments()) {
        for (const auto& values : {to_host(moments.m.view()), to_host(moments.v.view())}) {
            all.insert(all.end(), values.begin(), values.end());
        }
    }
    return all;
}

}  // namespace mor::test
