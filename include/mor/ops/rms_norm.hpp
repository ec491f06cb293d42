// SPDX-License-Identifier: Apache-2.0
//
// Root-mean-square normalisation: y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + epsilon).
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct RmsNorm {};
struct RmsNormBackward {};
}  // namespace op

namespace ops {

/// Writes y and, for the backward pass, inverse_rms[i] = 1 / rms(x[i]) and `copy` = x, unless that
/// is empty. x, y, copy [rows, hidden], weight [hidden], inverse_rms [rows]; y
/// may alias x, copy nothing.
template <Backend B, ProductOutput<B> Y>
void rms_norm(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> weight, double epsilon,
              Y y, VectorView<B> inverse_rms, MatrixView<B> copy = {}) {
    expect_extents("rms_norm", "weight", weight, {x.columns()});
    expect_extents("rms_norm", "y", y, x.extents());
    expect_extents("rms_norm", "inverse_rms", inverse_rms, {x.rows()});
    if (!copy.empty()) {
        expect_extents("rms_norm", "copy", copy, x.extents());
    }
    Kernel<op::RmsNorm, B>::run(context, x, weight, epsilon, y, inverse_rms, copy);
}

/// Adds the gradient to dx [rows, hidden] and dweight [hidden].
template <Backend B>
void rms_norm_backward(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> x,
                       ConstVectorView<B> weight, ConstVectorView<B> inverse_rms, MatrixView<B> dx,
                       VectorView<B> dweight) {
    expect_extents("rms_norm_backward", "dy", dy, x.extents());
    expect_extents("rms_norm_backward", "weight", weight, {x.columns()});
    expect_extents("rms_norm_backward", "inverse_rms", inverse_rms, {x.rows()});
    expect_extents("rms_norm_backward", "dx", dx, x.extents());
    expect_extents("rms_norm_backward", "dweight", dweight, {x.columns()});
    Kernel<op::RmsNormBackward, B>::run(context, dy, x, weight, inverse_rms, dx, dweight);
}

}  // namespace ops
}  // namespace mor
