// SPDX-License-Identifier: Apache-2.0
//
// Other ways than the library's to choose the best rows of a sequence, to measure it beside. Each
// writes the `most` best of scores [rows], which are numbers, to `kept`, ascending; of equal ones
// the lower.
#pragma once

#include <mor/core/types.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

namespace benchmarks {

/// The k-th largest value by partition, then a pass that keeps what reaches it.
struct NthElementOfValues {
    static constexpr std::string_view name = "nth_element_of_values";

    void operator()(std::span<const float> scores, mor::Index* kept, mor::Index most) {
        if (most == 0) {
            return;
        }
        values.assign(scores.begin(), scores.end());
        std::nth_element(values.begin(), values.begin() + (most - 1), values.end(),
                         std::greater<>{});
        const float bound = values[static_cast<std::size_t>(most - 1)];
        auto ties = most - std::count_if(scores.begin(), scores.end(),
                                         [bound](float score) { return score > bound; });
        for (mor::Index i = 0; i < std::ssize(scores); ++i) {
            const float score = scores[static_cast<std::size_t>(i)];
            if (score > bound || (score == bound && ties-- > 0)) {
                *kept++ = i;
            }
        }
    }

    std::vector<float> values = {};
};

/// Indices by `Order`, then sorted.
template <class Order>
struct OrderOfIndices {
    static constexpr std::string_view name = Order::name;

    void operator()(std::span<const float> scores, mor::Index* kept, mor::Index most) {
        order.resize(scores.size());
        std::iota(order.begin(), order.end(), mor::Index{0});
        Order{}(order, most, [scores](mor::Index a, mor::Index b) {
            const float of_a = scores[static_cast<std::size_t>(a)];
            const float of_b = scores[static_cast<std::size_t>(b)];
            return of_a > of_b || (of_a == of_b && a < b);
        });
        std::sort(order.begin(), order.begin() + most);
        std::copy_n(order.begin(), most, kept);
    }

    std::vector<mor::Index> order = {};
};

struct ByPartition {
    static constexpr std::string_view name = "nth_element_of_indices";
    void operator()(std::vector<mor::Index>& order, mor::Index most, auto&& is_better) const {
        std::nth_element(order.begin(), order.begin() + most, order.end(), is_better);
    }
};
struct ByHeap {
    static constexpr std::string_view name = "partial_sort_of_indices";
    void operator()(std::vector<mor::Index>& order, mor::Index most, auto&& is_better) const {
        std::partial_sort(order.begin(), order.begin() + most, order.end(), is_better);
    }
};

using NthElementOfIndices = OrderOfIndices<ByPartition>;
using PartialSortOfIndices = OrderOfIndices<ByHeap>;

}  // namespace benchmarks
