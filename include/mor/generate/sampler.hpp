// SPDX-License-Identifier: Apache-2.0
//
// From logits to a token: repetition penalty, temperature, then top-k, top-p and min-p.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/random.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <vector>

namespace mor {

struct SamplingOptions {
    double temperature = 1.0;  // 0: always the likeliest token
    Index top_k = 0;           // 0: all tokens
    double top_p = 1.0;  // the smallest set of likeliest tokens with at least this probability
    double min_p = 0.0;  // drops tokens below this share of the likeliest one's probability
    double repetition_penalty = 1.0;  // logits of earlier tokens: divided by it, or times if < 0
    std::uint64_t seed = 0;
};

class Sampler {
public:
    /// Throws ConfigError if an option is out of range.
    explicit Sampler(const SamplingOptions& options)
        : options_{options}, random_{options.seed, sampling_stream} {
        check<ConfigError>(options.temperature >= 0, "mor::Sampler: temperature is ",
                           options.temperature, ", expected 0 or more");
        check<ConfigError>(options.top_k >= 0, "mor::Sampler: top_k is ", options.top_k,
                           ", expected 0 or more");
        check<ConfigError>(options.top_p > 0 && options.top_p <= 1, "mor::Sampler: top_p is ",
                           options.top_p, ", expected a number in (0, 1]");
        check<ConfigError>(options.min_p >= 0 && options.min_p <= 1, "mor::Sampler: min_p is ",
                           options.min_p, ", expected a number in [0, 1]");
        check<ConfigError>(
            options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
            "mor::Sampler: repetition_penalty is ", options.repetition_penalty,
            ", expected a positive number");
    }

    /// The same, with the penalty for tokens of `earlier`, each once (Keskar et al. 2019, "CTRL",
    /// section 4.1).
    template <class T>
    [[nodiscard]] TokenId sample(std::span<const T> logits, std::span<const TokenId> earlier) {
        if (options_.repetition_penalty == 1) {
            return sample(logits);
        }
        std::vector<T> penalised(logits.begin(), logits.end());
        const T penalty = static_cast<T>(options_.repetition_penalty);
        for (const TokenId token : std::set<TokenId>(earlier.begin(), earlier.end())) {
            T& logit = penalised[static_cast<std::size_t>(token)];
            logit = logit > 0 ? logit / penalty : logit * penalty;
        }
        return sample(std::span<const T>{penalised});
    }

    /// Ties go to the lower token. Throws NumericError if a logit is NaN or none is finite.
    template <class T>
    [[nodiscard]] TokenId sample(std::span<const T> logits) {
        auto largest = -std::numeric_limits<double>::infinity();
        for (const T logit : logits) {
            check<NumericError>(!std::isnan(logit), "mor::Sampler: a logit is NaN");
            largest = std::max(largest, static_cast<double>(logit));
        }
        check<NumericError>(std::isfinite(largest), "mor::Sampler: the largest logit is ", largest);
        if (options_.temperature == 0) {
            return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) -
                                        logits.begin());
        }
        std::vector<TokenId> order(logits.size());
        std::iota(order.begin(), order.end(), TokenId{0});
        std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
            return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
        });
        if (options_.top_k > 0 && options_.top_k < std::ssize(order)) {
            order.resize(static_cast<std::size_t>(options_.top_k));
        }
        std::vector<double> cumulative;  // of unnormalised probabilities, likeliest first
        double sum = 0;
        for (const TokenId token : order) {
            const auto logit = static_cast<double>(logits[static_cast<std::size_t>(token)]);
            const double relative = std::exp((logit - largest) / options_.temperature);
            if (relative < options_.min_p) {
                break;
            }
            sum += relative;
            cumulative.push_back(sum);
        }
        const auto first_reaching = [&](double bound, auto end) {
            const auto at = std::lower_bound(cumulative.begin(), end, bound);
            return at == end ? std::prev(end) : at;
        };
        const auto nucleus = first_reaching(options_.top_p * sum, cumulative.end());
        const auto chosen = first_reaching(random_.uniform() * *nucleus, std::next(nucleus));
        return order[static_cast<std::size_t>(chosen - cumulative.begin())];
    }

private:
    SamplingOptions options_;
    Random random_;
};

}  // namespace mor
