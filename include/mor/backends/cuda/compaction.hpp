// SPDX-License-Identifier: Apache-2.0
//
// The numbers for which something holds, in order.
#pragma once

#include <mor/backends/cuda/arena_allocator.hpp>
#include <mor/backends/cuda/device.hpp>

#include <thrust/copy.h>
#include <thrust/iterator/counting_iterator.h>

namespace mor::cuda::detail {

/// Writes the i in [0, n) with predicate(i), ascending; returns how many. kept: room for [n].
/// `predicate` is called by kernels.
template <class B, class Predicate>
[[nodiscard]] Index compact(Context<B>& context, Index n, const Predicate& predicate,
                            IndexView<B> kept) {
    ArenaAllocator allocator{context.arena()};
    const thrust::counting_iterator<Index> numbers{0};
    Index* const end = context.backend().system().run_algorithm(
        "thrust::copy_if", allocator, [&](const auto& policy) {
            return thrust::copy_if(policy, numbers, numbers + n, kept.data(), predicate);
        });
    return end - kept.data();
}

/// The first place in [first, last) of the ascending `values` with a number >= bound, or `last`.
[[nodiscard]] MOR_HOST_DEVICE constexpr Index lower_bound(View<const Index, 1> values, Index first,
                                                          Index last, Index bound) {
    while (first < last) {
        const Index middle = first + (last - first) / 2;
        if (values[middle] < bound) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    return first;
}

/// The sequence that owns `row`; -1 for rows before the first. offsets [sequences + 1].
[[nodiscard]] MOR_HOST_DEVICE constexpr Index sequence_of(View<const Index, 1> offsets, Index row) {
    return lower_bound(offsets, 0, offsets.size(), row + 1) - 1;
}

}  // namespace mor::cuda::detail
