// SPDX-License-Identifier: Apache-2.0
//
// Multiplying by a number or by a number a column, and setting to one.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/linear.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct Scale {};
struct Fill {};
struct ScaleColumns {};
struct ScaleColumnsBackward {};
}  // namespace op

namespace ops {

/// y = factor * x or y += factor * x. Both [rows, columns]; y may be x.
template <Backend B>
void scale(Context<B>& context, ConstMatrixView<B> x, double factor, MatrixView<B> y,
           Write write = Write::overwrite) {
    expect_extents("scale", "y", y, x.extents());
    Kernel<op::Scale, B>::run(context, x, factor, y, write);
}

/// Every element of out [n] becomes `value`.
template <Backend B>
void fill(Context<B>& context, double value, VectorView<B> out) {
    Kernel<op::Fill, B>::run(context, value, out);
}

/// y[i, j] = factor[j] * x[i, j], or added to y. x, y [rows, columns], y may be x; factor
/// [columns].
template <Backend B>
void scale_columns(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> factor,
                   MatrixView<B> y, Write write = Write::overwrite) {
    expect_extents("scale_columns", "y", y, x.extents());
    expect_extents("scale_columns", "factor", factor, {x.columns()});
    Kernel<op::ScaleColumns, B>::run(context, x, factor, y, write);
}

/// dx[i, j] = factor[j] * dy[i, j]; adds the sums over rows of dy * x to dfactor. dx may be dy.
template <Backend B>
void scale_columns_backward(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> factor,
                            ConstMatrixView<B> dy, MatrixView<B> dx, VectorView<B> dfactor) {
    expect_extents("scale_columns_backward", "dy", dy, x.extents());
    expect_extents("scale_columns_backward", "dx", dx, x.extents());
    expect_extents("scale_columns_backward", "factor", factor, {x.columns()});
    expect_extents("scale_columns_backward", "dfactor", dfactor, {x.columns()});
    Kernel<op::ScaleColumnsBackward, B>::run(context, x, factor, dy, dx, dfactor);
}

}  // namespace ops
}  // namespace mor
