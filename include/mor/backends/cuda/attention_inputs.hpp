// SPDX-License-Identifier: Apache-2.0
//
// What the attention kernels of the Cuda backend share: their arguments, and which tiles they use.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/exact_tiles.hpp>
#include <mor/backends/cuda/rounded_tiles.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>

namespace mor::cuda::detail {

/// Queries, keys and values of numbers X.
template <class B, class X>
struct AttentionInputs {
    using T = typename B::Element;
    using Matrix = View<const X, 2, typename B::Space>;

    AttentionShape shape;
    Matrix q;
    Matrix k;
    Matrix v;
    KeyRanges<B> ranges;
    T scale = T{1} / std::sqrt(static_cast<T>(shape.head_dim));

    [[nodiscard]] MOR_HOST_DEVICE int dim() const { return static_cast<int>(shape.head_dim); }
    /// Where the keys and values of a query head begin in their rows.
    [[nodiscard]] MOR_HOST_DEVICE Index kv_column(Index head) const {
        return head / (shape.heads / shape.kv_heads) * shape.head_dim;
    }
};

/// Fewer query rows give a GPU too few tiles: what they see is computed row by row.
inline constexpr Index fewest_rows_for_tiles = 128;

/// body(tiles) with the tiles of attention: RoundedTiles where the system's products round their
/// factors, but for heads that are too wide for them. Few rows are not rounded backward, as they
/// were not forward: their softmax would be another.
template <class B, class X, class Body>
void with_tiles(const AttentionInputs<B, X>& inputs, const Body& body) {
    using S = typename B::System;
    if constexpr (requires { typename S::AttentionFactor; }) {
        using Rounded = RoundedTiles<typename S::Team>;
        if (inputs.q.rows() >= fewest_rows_for_tiles &&
            inputs.shape.head_dim <= Rounded::widest_head) {
            body(Rounded{});
            return;
        }
    }
    body(ExactTiles<typename B::Element>{});
}

/// The rows from `first` that share their begin, before `last`: query rows of one sequence.
struct QueryRun {
    Index last;
    Index key_end;  // the largest of their ends
};
[[nodiscard]] MOR_HOST_DEVICE constexpr QueryRun query_run(View<const Index, 1> begin,
                                                           View<const Index, 1> end, Index first,
                                                           Index last) {
    QueryRun run{first + 1, end[first]};
    while (run.last < last && begin[run.last] == begin[first]) {
        run.key_end = end[run.last] > run.key_end ? end[run.last] : run.key_end;
        ++run.last;
    }
    return run;
}

}  // namespace mor::cuda::detail
