// SPDX-License-Identifier: Apache-2.0
//
// Multiplying by a number, and setting to one.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/linear.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct Scale {};
struct Fill {};
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

}  // namespace ops
}  // namespace mor
