// SPDX-License-Identifier: Apache-2.0
//
// Selection of the Reference backend: sort, cut off, sort back.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/select.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace mor {

template <class T>
struct Kernel<op::TopK, Reference<T>> {
    static Index run(Context<Reference<T>>& /*context*/, View<const T, 1> scores,
                     View<const Index, 1> offsets, View<const Index, 1> k, View<Index, 1> kept) {
        const auto score = [&](Index row) {
            return std::isnan(scores[row]) ? -std::numeric_limits<T>::infinity() : scores[row];
        };
        Index count = 0;
        for (Index s = 0; s < k.size(); ++s) {
            std::vector<Index> order(static_cast<std::size_t>(offsets[s + 1] - offsets[s]));
            std::iota(order.begin(), order.end(), offsets[s]);
            // Stable, so that of equal scores the lower row comes first.
            std::stable_sort(order.begin(), order.end(),
                             [&](Index a, Index b) { return score(a) > score(b); });
            const Index num_kept = std::clamp<Index>(k[s], 0, offsets[s + 1] - offsets[s]);
            std::sort(order.begin(), order.begin() + num_kept);
            std::copy_n(order.begin(), num_kept, kept.data() + count);
            count += num_kept;
        }
        return count;
    }
};

template <class T>
struct Kernel<op::SelectGreater, Reference<T>> {
    static Index run(Context<Reference<T>>& /*context*/, View<const T, 1> scores, double bound,
                     View<Index, 1> kept) {
        Index count = 0;
        for (Index i = 0; i < scores.size(); ++i) {
            if (double{scores[i]} > bound) {
                kept[count++] = i;
            }
        }
        return count;
    }
};

}  // namespace mor
