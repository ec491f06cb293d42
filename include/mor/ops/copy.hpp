// SPDX-License-Identifier: Apache-2.0
//
// Copies between views of one backend.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct Copy {};
}  // namespace op

namespace ops {

/// to = from; both [rows, columns], not overlapping.
template <Backend B>
void copy(Context<B>& context, ConstMatrixView<B> from, MatrixView<B> to) {
    expect_extents("copy", "to", to, from.extents());
    Kernel<op::Copy, B>::run(context, from, to);
}

}  // namespace ops
}  // namespace mor
