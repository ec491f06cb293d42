// SPDX-License-Identifier: Apache-2.0
//
// The losses of a router: named sums in the backend's memory, which come to the host together.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>
#include <mor/core/tensor.hpp>
#include <mor/core/types.hpp>

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace mor {

/// One named part of the training objective: coefficient * value is added to the loss.
struct LossTerm {
    std::string_view name;
    double value = 0;
    double coefficient = 0;
};

/// Terms of the objective whose values are in the backend's memory: operations add to them, and
/// nobody waits. Memory is taken for the first term, and kept.
template <Backend B>
class LossTerms {
public:
    static constexpr Index most_terms = 32;

    /// The value to add to, [1], of the term of that name, which begins as zero. The name must
    /// outlive the terms. Throws ConfigError if there are more than most_terms.
    [[nodiscard]] SumView<B> slot(std::string_view name, double coefficient) {
        Index place = 0;
        while (place < size() && terms_[static_cast<std::size_t>(place)].name != name) {
            ++place;
        }
        if (place == size()) {
            check<ConfigError>(size() < most_terms, "mor::LossTerms: ", name,
                               " would be one more than ", Index{most_terms}, " terms");
            if (values_.size() == 0) {
                values_ = Tensor<double, 1, typename B::Space>{{most_terms}};
            }
            terms_.push_back({.name = name, .coefficient = coefficient});
        }
        return values_.view().slice(place, 1);
    }

    /// Forgets all terms.
    void clear() {
        terms_.clear();
        if (values_.size() > 0) {
            values_.zero();
        }
    }

    [[nodiscard]] Index size() const { return std::ssize(terms_); }

    /// The terms with their values, which are copied all at once.
    [[nodiscard]] std::vector<LossTerm> to_host() const {
        std::vector<LossTerm> terms = terms_;
        if (!terms.empty()) {
            std::array<double, most_terms> values{};
            B::Space::copy_to_host(values.data(), values_.view().data(),
                                   terms.size() * sizeof(double));
            for (std::size_t i = 0; i < terms.size(); ++i) {
                terms[i].value = values[i];
            }
        }
        return terms;
    }

private:
    std::vector<LossTerm> terms_;  // without values
    Tensor<double, 1, typename B::Space> values_;
};

}  // namespace mor
