// SPDX-License-Identifier: Apache-2.0
//
// What every attention kernel of the Cuda backend is called with.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>

namespace mor::cuda::detail {

template <class B>
struct AttentionInputs {
    using T = typename B::Element;

    AttentionShape shape;
    ConstMatrixView<B> q;
    ConstMatrixView<B> k;
    ConstMatrixView<B> v;
    KeyRanges<B> ranges;
    T scale = T{1} / std::sqrt(static_cast<T>(shape.head_dim));

    [[nodiscard]] MOR_HOST_DEVICE int dim() const { return static_cast<int>(shape.head_dim); }
    /// Where the keys and values of a query head begin in their rows.
    [[nodiscard]] MOR_HOST_DEVICE Index kv_column(Index head) const {
        return head / (shape.heads / shape.kv_heads) * shape.head_dim;
    }
};

}  // namespace mor::cuda::detail
