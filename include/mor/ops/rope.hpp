// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding, half-rotation form (Su et al. 2021, as in Llama): the pair
// (x[i], x[i + head_dim/2]) turns by position * base^(-2i/head_dim).
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

/// Backward is the inverse rotation, which is also the transposed one.
enum class Rotation { forward, backward };

namespace op {
struct Rope {};
}  // namespace op

namespace ops {

/// Rotates every head of every row in place, by the row's own position; each number is rounded
/// once. x [rows, heads * head_dim]; positions [rows], each in [0, cosine.rows()); cosine, sine
/// [positions, head_dim / 2].
template <Backend B, ProductOutput<B> X>
void rope(Context<B>& context, ConstIndexView<B> positions, ConstMatrixView<B> cosine,
          ConstMatrixView<B> sine, X x, Rotation rotation) {
    expect_extents("rope", "positions", positions, {x.rows()});
    expect_extents("rope", "sine", sine, cosine.extents());
    check<ShapeError>(cosine.columns() > 0 && x.columns() % (2 * cosine.columns()) == 0,
                      "mor::ops::rope: x has ", x.columns(),
                      " columns, expected a multiple of head_dim ", 2 * cosine.columns());
    Kernel<op::Rope, B>::run(context, positions, cosine, sine, x, rotation);
}

}  // namespace ops
}  // namespace mor
