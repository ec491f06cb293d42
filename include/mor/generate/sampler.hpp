// SPDX-License-Identifier: Apache-2.0
//
// From logits to a token: repetition penalty, temperature, then top-k, top-p and min-p. A server
// pays it for every token, so nothing sorts the vocabulary, and compilers vectorise what reads it.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/random.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>
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

namespace detail {

/// 2^x for x in [-126, 0], to a millionth. Unlike std::exp2 it can be vectorised.
[[nodiscard]] inline float power_of_two(float x) {
    const auto whole = static_cast<std::int32_t>(x - 0.5F);
    const float z = (x - static_cast<float>(whole)) * std::numbers::ln2_v<float>;
    // exp(z), of |z| < 0.35
    const float rest = 1.0F / 24 + z * (1.0F / 120 + z * (1.0F / 720));
    const float series = 1 + z * (1 + z * (1.0F / 2 + z * (1.0F / 6 + z * rest)));
    return series * std::bit_cast<float>((whole + 127) << 23);
}

/// The tokens that options leave of logits. Every filter keeps those down to some place in the
/// order of falling logits and, of equals, rising tokens; so the last one kept says all. Logits are
/// read in blocks, and those of which nothing is kept are skipped.
template <std::floating_point T>
class TokenDistribution {
public:
    /// The first token in order.
    [[nodiscard]] TokenId likeliest(std::span<const T> logits) {
        read(logits);
        const auto block = std::find(maxima_.begin(), maxima_.end(), largest_) - maxima_.begin();
        const auto begin = logits.begin() + block * static_cast<std::ptrdiff_t>(width);
        return static_cast<TokenId>(std::find(begin, logits.end(), largest_) - logits.begin());
    }

    /// One of the tokens left, by numbers in [0, 1) from uniform(): the first with which the
    /// probabilities, added from token 0 on, exceed it. The temperature must not be 0.
    [[nodiscard]] TokenId draw(std::span<const T> logits, const SamplingOptions& options,
                               auto uniform) {
        read(logits);
        keep_min_p(options);
        if (options.top_k > 0 && options.top_k < std::ssize(logits)) {
            keep_top_k(options.top_k);
        }
        double sum = sum_weights();
        const double enough = options.top_p * sum;
        TokenId token = find(uniform() * sum);
        while (options.top_p < 1) {
            // Where top-p ends is not looked for. A token is within if those before it, in order,
            // do not have enough. If they have, top-p ends among them: the next draw is of them.
            last_logit_ = logits[static_cast<std::size_t>(token)];
            last_token_ = token - 1;
            sum = sum_weights();
            if (sum < enough) {
                break;
            }
            token = find(uniform() * sum);
        }
        return token;
    }

private:
    static constexpr std::size_t width = 128;  // of a block
    static constexpr std::size_t lanes = 16;
    // A draw has 53 bits, so a token that many times less likely than another never comes.
    static constexpr double octaves = 53;
    using Weights = std::array<float, width>;

    /// Takes `lanes` results side by side: a compiler keeps the order of floating-point operations,
    /// and so does not vectorise the plain loop.
    template <class V>
    [[nodiscard]] static V reduce(const V* values, auto combine) {
        std::array<V, lanes> result;
        std::copy_n(values, lanes, result.begin());
        for (std::size_t i = lanes; i < width; i += lanes) {
            for (std::size_t j = 0; j < lanes; ++j) {
                result[j] = combine(result[j], values[i + j]);
            }
        }
        return std::accumulate(result.begin() + 1, result.end(), result[0], combine);
    }

    [[nodiscard]] const T* values_of(std::size_t block) const {
        return (block + 1) * width > logits_.size() ? tail_.data() : logits_.data() + block * width;
    }

    [[nodiscard]] static TokenId token_at(std::size_t block, std::size_t i) {
        return static_cast<TokenId>(block * width + i);
    }

    void read(std::span<const T> logits) {
        logits_ = logits;
        tail_.fill(-std::numeric_limits<T>::infinity());
        const std::size_t rest = logits.size() % width;
        std::copy(logits.end() - static_cast<std::ptrdiff_t>(rest), logits.end(), tail_.begin());
        maxima_.resize((logits.size() + width - 1) / width);
        largest_ = -std::numeric_limits<T>::infinity();
        std::int32_t any_nan = 0;
        for (std::size_t block = 0; block < maxima_.size(); ++block) {
            const T* const values = values_of(block);
            for (std::size_t i = 0; i < width; ++i) {
                any_nan |= static_cast<std::int32_t>(std::isnan(values[i]));
            }
            maxima_[block] = reduce(values, [](T a, T b) { return a < b ? b : a; });
            largest_ = std::max(largest_, maxima_[block]);
        }
        check<NumericError>(any_nan == 0, "mor::Sampler: a logit is NaN");
        check<NumericError>(std::isfinite(largest_), "mor::Sampler: the largest logit is ",
                            largest_);
    }

    void keep_min_p(const SamplingOptions& options) {
        constexpr double most = std::numeric_limits<T>::max();
        // exp(logit / temperature) is 2^(logit * scale_)
        scale_ = static_cast<T>(std::min(std::numbers::log2e / options.temperature, most));
        const double least = std::max(std::log(options.min_p), -octaves * std::numbers::ln2);
        const double bound = std::min<double>(largest_, largest_ + options.temperature * least);
        // Infinite or NaN where the temperature is infinite. Never keeps a logit of -infinity.
        last_logit_ = static_cast<T>(std::max(bound, -most));
        last_token_ = std::numeric_limits<TokenId>::max();
    }

    void keep_top_k(Index k) {
        if (k <= std::ssize(maxima_)) {
            // At least k logits are as large as the k-th largest of the maxima.
            bounds_ = maxima_;
            const auto kth = bounds_.begin() + (k - 1);
            std::nth_element(bounds_.begin(), kth, bounds_.end(), std::greater<>{});
            last_logit_ = std::max(last_logit_, *kth);
        }
        candidates_.clear();
        for (std::size_t block = 0; block < maxima_.size(); ++block) {
            const T* const values = values_of(block);
            for (std::size_t i = 0; maxima_[block] >= last_logit_ && i < width; ++i) {
                if (values[i] >= last_logit_) {
                    candidates_.emplace_back(-values[i], token_at(block, i));
                }
            }
        }
        if (k < std::ssize(candidates_)) {
            const auto kth = candidates_.begin() + (k - 1);
            std::nth_element(candidates_.begin(), kth, candidates_.end());
            last_logit_ = -kth->first;
            last_token_ = kth->second;
        }
    }

    /// Of every token of a block its probability over that of the likeliest, or 0 if not kept.
    void weigh(std::size_t block, Weights& weights) const {
        const T* const values = values_of(block);
        for (std::size_t i = 0; i < width; ++i) {
            constexpr T least = -octaves - 1;
            const T power = (values[i] - largest_) * scale_;
            weights[i] = static_cast<float>(power > least ? power : least);
        }
        // In loops of their own, as g++ does not vectorise them together.
        for (float& weight : weights) {
            weight = power_of_two(weight);
        }
        const TokenId first = token_at(block, 0);
        for (std::size_t i = 0; i < width; ++i) {
            const bool before = first + static_cast<TokenId>(i) <= last_token_;
            const bool kept = (values[i] > last_logit_) | ((values[i] == last_logit_) & before);
            weights[i] = kept ? weights[i] : 0;
        }
    }

    /// Fills sums_ and returns the sum of all.
    [[nodiscard]] double sum_weights() {
        sums_.assign(maxima_.size(), 0.0);
        double all = 0;
        for (std::size_t block = 0; block < maxima_.size(); ++block) {
            if (maxima_[block] >= last_logit_) {
                Weights weights;
                weigh(block, weights);
                sums_[block] = static_cast<double>(reduce(weights.data(), std::plus<float>{}));
                all += sums_[block];
            }
        }
        return all;
    }

    /// The first token with which the weights, added from token 0 on, exceed `bound`; should
    /// rounding let none, the last one kept in its block.
    [[nodiscard]] TokenId find(double bound) const {
        const auto first_exceeding = [&](const auto& parts) {
            std::size_t found = 0;
            for (std::size_t i = 0; i < parts.size(); ++i) {
                const auto part = static_cast<double>(parts[i]);
                if (part > bound) {
                    return i;
                }
                found = part > 0 ? i : found;
                bound -= part;
            }
            return found;
        };
        const std::size_t block = first_exceeding(sums_);
        Weights weights;
        weigh(block, weights);
        return token_at(block, first_exceeding(weights));
    }

    std::span<const T> logits_;  // during a call
    std::array<T, width> tail_;  // the last block, filled up, if it is not full
    std::vector<T> maxima_;      // of the blocks
    T largest_ = 0;
    T scale_ = 0;       // probabilities are as 2^(scale_ * logit)
    T last_logit_ = 0;  // of the last token kept
    TokenId last_token_ = 0;
    std::vector<double> sums_;                       // of the weights of each block
    std::vector<T> bounds_;                          // scratch, as the next
    std::vector<std::pair<T, TokenId>> candidates_;  // negated logit and token: pairs in order
};

}  // namespace detail

/// Of a token under the softmax of logits [vocabulary].
template <std::floating_point T>
[[nodiscard]] double log_probability(std::span<const T> logits, TokenId token) {
    const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0;
    for (const T logit : logits) {
        sum += std::exp(static_cast<double>(logit) - largest);
    }
    return static_cast<double>(logits[static_cast<std::size_t>(token)]) - largest - std::log(sum);
}

class Sampler {
public:
    /// Throws ConfigError if an option is out of range.
    explicit Sampler(const SamplingOptions& options)
        : options_{options}, random_{options.seed, sampling_stream} {
        const auto expect = [](bool holds, const char* name, auto value, const char* range) {
            check<ConfigError>(holds, "mor::Sampler: ", name, " is ", value, ", expected ", range);
        };
        expect(options.temperature >= 0, "temperature", options.temperature, "0 or more");
        expect(options.top_k >= 0, "top_k", options.top_k, "0 or more");
        expect(options.top_p > 0 && options.top_p <= 1, "top_p", options.top_p,
               "a number in (0, 1]");
        expect(options.min_p >= 0 && options.min_p <= 1, "min_p", options.min_p,
               "a number in [0, 1]");
        const double by = options.repetition_penalty;
        using Float = std::numeric_limits<float>;
        expect(by >= Float::min() && by <= Float::max(), "repetition_penalty", by,
               "a positive number in the range of float");
    }

    /// The same, with the penalty for tokens of `earlier`, each once (Keskar et al. 2019, "CTRL",
    /// section 4.1).
    template <class T>
    [[nodiscard]] TokenId sample(std::span<const T> logits, std::span<const TokenId> earlier) {
        if (options_.repetition_penalty == 1) {
            return sample(logits);
        }
        auto& penalised = std::get<std::vector<T>>(penalised_);
        penalised.assign(logits.begin(), logits.end());
        const T penalty = static_cast<T>(options_.repetition_penalty);
        for (const TokenId token : earlier) {
            // From the original logit, so that a token that comes again is not penalised again.
            const auto at = static_cast<std::size_t>(token);
            penalised[at] = logits[at] > 0 ? logits[at] / penalty : logits[at] * penalty;
        }
        return sample(std::span<const T>{penalised});
    }

    /// Ties go to the lower token. Throws NumericError if a logit is NaN or none is finite.
    template <class T>
    [[nodiscard]] TokenId sample(std::span<const T> logits) {
        auto& distribution = std::get<detail::TokenDistribution<T>>(distributions_);
        return options_.temperature == 0
                   ? distribution.likeliest(logits)
                   : distribution.draw(logits, options_, [&] { return random_.uniform(); });
    }

private:
    SamplingOptions options_;
    Random random_;
    // Kept, so that only the first draw allocates.
    std::tuple<detail::TokenDistribution<float>, detail::TokenDistribution<double>> distributions_;
    std::tuple<std::vector<float>, std::vector<double>> penalised_;
};

}  // namespace mor
