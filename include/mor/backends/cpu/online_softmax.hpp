// SPDX-License-Identifier: Apache-2.0
//
// A softmax over scores that come block by block (Milakov and Gimelshein 2018): what was added up
// so far is brought to a common factor whenever a larger score appears.
#pragma once

#include <mor/backends/cpu/packets.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace mor::cpu::detail {

/// The softmax of one query row so far.
template <class T>
struct OnlineSoftmax {
    T largest = -std::numeric_limits<T>::infinity();
    T sum = 0;

    /// scores [count], not yet scaled, become probabilities up to a common factor; result [dim],
    /// the sum of values so far, comes to the same factor. Whole packets of scores are read and
    /// written; zeros follow the last.
    void add(T* scores, Index count, T scale, T* result, Index dim) {
        using namespace Eigen::internal;
        constexpr Index size = packet_size<T>;
        const Index padded = (count + size - 1) / size * size;
        std::fill(scores + count, scores + padded, -std::numeric_limits<T>::infinity());
        auto most = pload<Packet<T>>(scores);
        for (Index j = size; j < padded; j += size) {
            most = pmax(most, pload<Packet<T>>(scores + j));
        }
        const T new_largest = std::max(largest, scale * predux_max(most));
        const auto factor = pset1<Packet<T>>(scale);
        const auto shift = pset1<Packet<T>>(new_largest);
        for (Index j = 0; j < padded; j += size) {
            pstore(scores + j, pexp(psub(pmul(factor, pload<Packet<T>>(scores + j)), shift)));
        }
        std::fill(scores + count, scores + padded, T{0});
        auto total = pload<Packet<T>>(scores);
        for (Index j = size; j < padded; j += size) {
            total = padd(total, pload<Packet<T>>(scores + j));
        }
        if (largest != new_largest) {
            const T correction = pfirst(pexp(pset1<Packet<T>>(largest - new_largest)));
            sum *= correction;
            std::transform(result, result + dim, result, [&](T x) { return x * correction; });
        }
        sum += predux(total);
        largest = new_largest;
    }

    /// Divides the sum of values by that of probabilities; returns the logarithm of the latter.
    [[nodiscard]] T finish(T* result, Index dim) const {
        std::transform(result, result + dim, result, [&](T x) { return x / sum; });
        return largest + std::log(sum);
    }
};

}  // namespace mor::cpu::detail
