// SPDX-License-Identifier: Apache-2.0
//
// Matrix products with weights stored [out, in], as checkpoints have them.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

/// Whether an operation replaces its output or adds to it.
enum class Write { overwrite, accumulate };

namespace op {
struct Linear {};
struct LinearBackwardInput {};
struct LinearBackwardWeight {};
}  // namespace op

namespace ops {

/// y = x * weight^T, or y += x * weight^T.
/// x [rows, in], weight [out, in], y [rows, out]; y may not alias x.
template <Backend B>
void linear(Context<B>& context, ConstMatrixView<B> x, ConstMatrixView<B> weight, MatrixView<B> y,
            Write write = Write::overwrite) {
    expect_extents("linear", "x", x, {x.rows(), weight.columns()});
    expect_extents("linear", "y", y, {x.rows(), weight.rows()});
    context.count_flops(2.0 * static_cast<double>(x.rows()) * static_cast<double>(weight.size()));
    Kernel<op::Linear, B>::run(context, x, weight, y, write);
}

/// dx = dy * weight, or dx += dy * weight. dy [rows, out], weight [out, in], dx [rows, in].
template <Backend B>
void linear_backward_input(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> weight,
                           MatrixView<B> dx, Write write = Write::overwrite) {
    expect_extents("linear_backward_input", "dy", dy, {dy.rows(), weight.rows()});
    expect_extents("linear_backward_input", "dx", dx, {dy.rows(), weight.columns()});
    context.count_flops(2.0 * static_cast<double>(dy.rows()) * static_cast<double>(weight.size()));
    Kernel<op::LinearBackwardInput, B>::run(context, dy, weight, dx, write);
}

/// dweight += dy^T * x. dy [rows, out], x [rows, in], dweight [out, in].
template <Backend B>
void linear_backward_weight(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> x,
                            MatrixView<B> dweight) {
    expect_extents("linear_backward_weight", "dy", dy, {x.rows(), dweight.rows()});
    expect_extents("linear_backward_weight", "x", x, {x.rows(), dweight.columns()});
    context.count_flops(2.0 * static_cast<double>(x.rows()) * static_cast<double>(dweight.size()));
    Kernel<op::LinearBackwardWeight, B>::run(context, dy, x, dweight);
}

}  // namespace ops
}  // namespace mor
