// SPDX-License-Identifier: Apache-2.0
//
// Copies between views of one backend.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

#include <concepts>

namespace mor {

namespace op {
struct Copy {};
}  // namespace op

namespace ops {

/// to = from; both [rows, columns] of the same numbers, not overlapping.
template <Backend B, ProductInput<B> X = ConstMatrixView<B>, ProductOutput<B> Y = MatrixView<B>>
    requires std::same_as<typename X::Number, typename Y::Number>
void copy(Context<B>& context, X from, Y to) {
    expect_extents("copy", "to", to, from.extents());
    Kernel<op::Copy, B>::run(context, ReadOnly<B, X>{from}, to);
}

}  // namespace ops
}  // namespace mor
