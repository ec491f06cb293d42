// SPDX-License-Identifier: Apache-2.0
//
// What an optimiser does to one flat parameter.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

/// One AdamW update (Loshchilov and Hutter 2019), decoupled decay:
///   g = gradient_scale * gradient
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   value -= learning_rate * (m / correction1 / (sqrt(v / correction2) + epsilon) + decay value)
struct AdamWStep {
    double learning_rate = 0;
    double beta1 = 0;
    double beta2 = 0;
    double epsilon = 0;
    double decay = 0;
    double correction1 = 1;     // 1 - beta1^t
    double correction2 = 1;     // 1 - beta2^t
    double gradient_scale = 1;  // for clipping by the global norm
};

namespace op {
struct AdamW {};
struct SumOfSquares {};
}  // namespace op

namespace ops {

/// Updates value, m and v in place; all [n].
template <Backend B>
void adamw(Context<B>& context, const AdamWStep& step, ConstVectorView<B> gradient,
           VectorView<B> value, VectorView<B> m, VectorView<B> v) {
    expect_extents("adamw", "gradient", gradient, value.extents());
    expect_extents("adamw", "m", m, value.extents());
    expect_extents("adamw", "v", v, value.extents());
    Kernel<op::AdamW, B>::run(context, step, gradient, value, m, v);
}

/// The sum of x^2, accumulated in double.
template <Backend B>
[[nodiscard]] double sum_of_squares(Context<B>& context, ConstVectorView<B> x) {
    return Kernel<op::SumOfSquares, B>::run(context, x);
}

}  // namespace ops
}  // namespace mor
