// SPDX-License-Identifier: Apache-2.0
//
// Matrix products with weights stored [out, in], as checkpoints have them.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/parameter.hpp>
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

template <Backend B, ProductInput<B> X, ProductOutput<B> Y>
void expect_linear(X x, ConstMatrixView<B> weight, Y y) {
    expect_extents("linear", "x", x, {x.rows(), weight.columns()});
    expect_extents("linear", "y", y, {x.rows(), weight.rows()});
}
template <Backend B, ProductInput<B> DY, ProductOutput<B> DX>
void expect_linear_backward_input(DY dy, ConstMatrixView<B> weight, DX dx) {
    expect_extents("linear_backward_input", "dy", dy, {dy.rows(), weight.rows()});
    expect_extents("linear_backward_input", "dx", dx, {dy.rows(), weight.columns()});
}
template <Backend B>
void count_linear(Context<B>& context, Index rows, ConstMatrixView<B> weight) {
    context.count_flops(2.0 * static_cast<double>(rows) * static_cast<double>(weight.size()));
}

/// y = x * weight^T, or y += x * weight^T; the sum is rounded once, to the numbers of y.
/// x [rows, in], weight [out, in], y [rows, out]; y may not alias x.
template <Backend B, ProductInput<B> X, ProductOutput<B> Y>
void linear(Context<B>& context, X x, ConstMatrixView<B> weight, Y y,
            Write write = Write::overwrite) {
    expect_linear<B>(x, weight, y);
    count_linear<B>(context, x.rows(), weight);
    Kernel<op::Linear, B>::run(context, x, weight, y, write);
}

/// The same with a parameter [out, in], which the backend may keep packed for this.
template <Backend B, ProductInput<B> X, ProductOutput<B> Y>
void linear(Context<B>& context, X x, const Parameter<B>& weight, Y y,
            Write write = Write::overwrite) {
    const ConstMatrixView<B> value = weight.value_matrix();
    if constexpr (PacksWeights<B>) {
        if (weight.is_packed() || B::PackedWeight::pays(x.rows(), value.rows())) {
            expect_linear<B>(x, value, y);
            count_linear<B>(context, x.rows(), value);
            Kernel<op::Linear, B>::run(context, x, weight.packed(context.backend()), y, write);
            return;
        }
    }
    linear(context, x, value, y, write);
}

/// dx = dy * weight, or dx += dy * weight. dy [rows, out], weight [out, in], dx [rows, in].
template <Backend B, ProductInput<B> DY, ProductOutput<B> DX>
void linear_backward_input(Context<B>& context, DY dy, ConstMatrixView<B> weight, DX dx,
                           Write write = Write::overwrite) {
    expect_linear_backward_input<B>(dy, weight, dx);
    count_linear<B>(context, dy.rows(), weight);
    Kernel<op::LinearBackwardInput, B>::run(context, dy, weight, dx, write);
}

/// The same with a parameter [out, in], which the backend may keep packed for this.
template <Backend B, ProductInput<B> DY, ProductOutput<B> DX>
void linear_backward_input(Context<B>& context, DY dy, const Parameter<B>& weight, DX dx,
                           Write write = Write::overwrite) {
    const ConstMatrixView<B> value = weight.value_matrix();
    if constexpr (PacksWeightsForGradients<B>) {
        if (weight.is_packed() || B::PackedWeight::pays(dy.rows(), value.rows())) {
            expect_linear_backward_input<B>(dy, value, dx);
            count_linear<B>(context, dy.rows(), value);
            Kernel<op::LinearBackwardInput, B>::run(context, dy, weight.packed(context.backend()),
                                                    dx, write);
            return;
        }
    }
    linear_backward_input(context, dy, value, dx, write);
}

/// dweight += dy^T * x. dy [rows, out], x [rows, in], dweight [out, in].
template <Backend B, ProductInput<B> DY, ProductInput<B> X>
void linear_backward_weight(Context<B>& context, DY dy, X x, MatrixView<B> dweight) {
    expect_extents("linear_backward_weight", "dy", dy, {x.rows(), dweight.rows()});
    expect_extents("linear_backward_weight", "x", x, {x.rows(), dweight.columns()});
    count_linear<B>(context, x.rows(), dweight);
    Kernel<op::LinearBackwardWeight, B>::run(context, dy, x, dweight);
}

}  // namespace ops
}  // namespace mor
