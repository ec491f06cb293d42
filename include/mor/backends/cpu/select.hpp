// SPDX-License-Identifier: Apache-2.0
//
// Selection of the Cpu backend: linear time, ascending by construction.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/ops/select.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace mor {

template <class T>
struct Kernel<op::TopK, Cpu<T>> {
    static Index run(Context<Cpu<T>>& context, View<const T, 1> scores,
                     View<const Index, 1> offsets, View<const Index, 1> k, View<Index, 1> kept) {
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto sorted = context.vector(scores.size());
        Index count = 0;
        for (Index s = 0; s < k.size(); ++s) {
            count += select(scores, offsets[s], offsets[s + 1], k[s], sorted.data(),
                            kept.data() + count);
        }
        return count;
    }

private:
    static T comparable(T score) {
        return std::isnan(score) ? -std::numeric_limits<T>::infinity() : score;
    }

    // Finds the k-th largest score, keeps all above it, and fills up with the first equal ones.
    static Index select(View<const T, 1> scores, Index first, Index last, Index k, T* sorted,
                        Index* kept) {
        const Index n = last - first;
        if (k <= 0 || n == 0) {
            return 0;
        }
        if (k >= n) {
            for (Index i = 0; i < n; ++i) {
                kept[i] = first + i;
            }
            return n;
        }
        std::transform(scores.data() + first, scores.data() + last, sorted, comparable);
        std::nth_element(sorted, sorted + (k - 1), sorted + n, std::greater<>{});
        const T bound = sorted[k - 1];
        const auto above =
            std::count_if(sorted, sorted + (k - 1), [bound](T score) { return score > bound; });
        Index equal_left = k - static_cast<Index>(above);
        Index count = 0;
        for (Index i = first; i < last; ++i) {
            const T score = comparable(scores[i]);
            if (score > bound || (score == bound && equal_left-- > 0)) {
                kept[count++] = i;
            }
        }
        return count;
    }
};

template <class T>
struct Kernel<op::SelectGreater, Cpu<T>> {
    static Index run(Context<Cpu<T>>& /*context*/, View<const T, 1> scores, double bound,
                     View<Index, 1> kept) {
        Index count = 0;
        for (Index i = 0; i < scores.size(); ++i) {
            kept[count] = i;
            count += static_cast<double>(scores[i]) > bound ? 1 : 0;
        }
        return count;
    }
};

}  // namespace mor
