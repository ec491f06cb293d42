// SPDX-License-Identifier: Apache-2.0
//
// Moving rows between the full stream of hidden states and the short batch of active ones.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

#include <concepts>

namespace mor {

namespace op {
struct GatherRows {};
struct GatherRowsWeighted {};
struct ScatterRows {};
struct ScatterAddRows {};
struct ScatterAddRowsWeighted {};
struct RowDot {};
}  // namespace op

namespace ops {

/// out[i] = x[rows[i]]. x [n, width], rows [m] in [0, n), out [m, width] of the same numbers.
template <Backend B, ProductInput<B> X = ConstMatrixView<B>, ProductOutput<B> Y = MatrixView<B>>
    requires std::same_as<typename X::Number, typename Y::Number>
void gather_rows(Context<B>& context, X x, ConstIndexView<B> rows, Y out) {
    expect_extents("gather_rows", "out", out, {rows.size(), x.columns()});
    Kernel<op::GatherRows, B>::run(context, ReadOnly<B, X>{x}, rows, out);
}

/// out[i] = weight[i] * x[rows[i]]. weight [m].
template <Backend B>
void gather_rows_weighted(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                          ConstVectorView<B> weight, MatrixView<B> out) {
    expect_extents("gather_rows_weighted", "out", out, {rows.size(), x.columns()});
    expect_extents("gather_rows_weighted", "weight", weight, {rows.size()});
    Kernel<op::GatherRowsWeighted, B>::run(context, x, rows, weight, out);
}

/// out[rows[i]] = x[i]. x [m, width], rows [m] distinct, out [n, width] of the same numbers.
template <Backend B, ProductInput<B> X = ConstMatrixView<B>, ProductOutput<B> Y = MatrixView<B>>
    requires std::same_as<typename X::Number, typename Y::Number>
void scatter_rows(Context<B>& context, X x, ConstIndexView<B> rows, Y out) {
    expect_extents("scatter_rows", "x", x, {rows.size(), out.columns()});
    Kernel<op::ScatterRows, B>::run(context, ReadOnly<B, X>{x}, rows, out);
}

/// out[rows[i]] += x[i]. rows [m] distinct.
template <Backend B>
void scatter_add_rows(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                      MatrixView<B> out) {
    expect_extents("scatter_add_rows", "x", x, {rows.size(), out.columns()});
    Kernel<op::ScatterAddRows, B>::run(context, x, rows, out);
}

/// out[rows[i]] += weight[i] * x[i]. rows [m] distinct, weight [m].
template <Backend B>
void scatter_add_rows_weighted(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                               ConstVectorView<B> weight, MatrixView<B> out) {
    expect_extents("scatter_add_rows_weighted", "x", x, {rows.size(), out.columns()});
    expect_extents("scatter_add_rows_weighted", "weight", weight, {rows.size()});
    Kernel<op::ScatterAddRowsWeighted, B>::run(context, x, rows, weight, out);
}

/// out[i] = a[rows[i]] . b[i]. a [n, width], rows [m], b [m, width], out [m].
template <Backend B>
void row_dot(Context<B>& context, ConstMatrixView<B> a, ConstIndexView<B> rows,
             ConstMatrixView<B> b, VectorView<B> out) {
    expect_extents("row_dot", "b", b, {rows.size(), a.columns()});
    expect_extents("row_dot", "out", out, {rows.size()});
    Kernel<op::RowDot, B>::run(context, a, rows, b, out);
}

}  // namespace ops
}  // namespace mor
