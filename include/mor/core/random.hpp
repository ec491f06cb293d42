// SPDX-License-Identifier: Apache-2.0
//
// A counter-based random generator: its whole state is a seed and a counter, so that a resumed
// run, another thread or another backend draws the same numbers.
#pragma once

#include <mor/core/types.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>

namespace mor {

// Streams of draws that must not repeat each other when everything has the same seed; data windows
// use the streams 0, 1, 2, ...
inline constexpr std::uint64_t weights_stream = ~std::uint64_t{0};
inline constexpr std::uint64_t sampling_stream = weights_stream - 1;

class Random {
public:
    /// Independent streams differ in `stream`, for example the training step.
    explicit constexpr Random(std::uint64_t seed, std::uint64_t stream = 0)
        : key_{mix(seed + 0x9E3779B97F4A7C15ULL) ^ mix(stream + 0xD1B54A32D192ED03ULL)} {}

    /// 64 uniform bits.
    constexpr std::uint64_t bits() { return mix(key_ + 0x9E3779B97F4A7C15ULL * ++counter_); }

    /// Uniform in [0, 1).
    constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

    /// Uniform in [0, bound). The bias is below bound / 2^53.
    constexpr Index below(Index bound) {
        return static_cast<Index>(uniform() * static_cast<double>(bound));
    }

    /// Standard normal (Box-Muller, one of the pair).
    double normal() {
        const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
        return radius * std::cos(2.0 * std::numbers::pi * uniform());
    }

private:
    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    static constexpr std::uint64_t mix(std::uint64_t z) {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31);
    }

    std::uint64_t key_;
    std::uint64_t counter_ = 0;
};

}  // namespace mor
