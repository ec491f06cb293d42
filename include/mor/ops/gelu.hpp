// SPDX-License-Identifier: Apache-2.0
//
// GELU in its exact form (Hendrycks and Gimpel 2016): y = x * Phi(x), Phi the normal distribution.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct Gelu {};
struct GeluBackward {};
}  // namespace op

namespace ops {

/// y = gelu(x); both [rows, columns].
template <Backend B>
void gelu(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> y) {
    expect_extents("gelu", "y", y, x.extents());
    Kernel<op::Gelu, B>::run(context, x, y);
}

/// Overwrites dx, which may alias dy. All [rows, columns].
template <Backend B>
void gelu_backward(Context<B>& context, ConstMatrixView<B> x, ConstMatrixView<B> dy,
                   MatrixView<B> dx) {
    expect_extents("gelu_backward", "dy", dy, x.extents());
    expect_extents("gelu_backward", "dx", dx, x.extents());
    Kernel<op::GeluBackward, B>::run(context, x, dy, dx);
}

}  // namespace ops
}  // namespace mor
