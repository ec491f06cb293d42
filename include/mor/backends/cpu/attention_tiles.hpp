// SPDX-License-Identifier: Apache-2.0
//
// What the forward and the backward kernel of attention share: how rows are split into tiles, and
// products of tiles.
#pragma once

#include <mor/backends/cpu/panels.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>

namespace mor::cpu::detail {

/// Query rows, or keys, that are at work together; the scores of one pair fit into the first-level
/// cache.
inline constexpr Index attention_tile = 64;

/// Panels that divide the usual widths of a head, 64 and 128, without a rest.
template <class T>
struct AttentionFactors : ExactFactors<T, 2> {};

/// Query rows [first, last) that share the begin of their key range: one sequence, or part of it.
struct QueryRun {
    Index first = 0;
    Index last = 0;

    [[nodiscard]] Index rows() const { return last - first; }
};

/// Splits the query rows into runs of at most `longest` rows; returns how many were written.
inline Index split_queries(View<const Index, 1> begin, Index longest, QueryRun* runs) {
    Index count = 0;
    for (Index row = 0; row < begin.size(); ++row) {
        const bool continues = count > 0 && begin[row] == begin[runs[count - 1].first] &&
                               row - runs[count - 1].first < longest;
        if (!continues) {
            runs[count++].first = row;
        }
        runs[count - 1].last = row + 1;
    }
    return count;
}

/// One head's columns of some rows of a matrix.
template <class T>
struct HeadRows {
    T* data;
    Index stride;
    Index rows;
};
template <class T>
[[nodiscard]] HeadRows<T> head_rows(View<T, 2> matrix, Index first, Index rows, Index column) {
    return {matrix.data() + first * matrix.columns() + column, matrix.columns(), rows};
}

/// So many numbers hold the panels of a right factor [depth, columns].
template <class T>
[[nodiscard]] constexpr Index panels_size(Index columns, Index depth) {
    return num_panels<AttentionFactors<T>>(columns) * panel_width<AttentionFactors<T>> * depth;
}

/// rows [columns, depth] become the right factor [depth, columns].
template <class T>
void pack_rows_transposed(HeadRows<const T> rows, Index depth, T* out) {
    using F = AttentionFactors<T>;
    for (Index panel = 0; panel < num_panels<F>(rows.rows); ++panel) {
        pack_transposed<F>(rows.data, rows.stride, rows.rows, panel, depth,
                           out + panel * panel_width<F> * depth);
    }
}

/// rows [depth, columns] become the right factor [depth, columns].
template <class T>
void pack_rows(HeadRows<const T> rows, Index columns, T* out) {
    using F = AttentionFactors<T>;
    for (Index panel = 0; panel < num_panels<F>(columns); ++panel) {
        const Index column = panel * panel_width<F>;
        pack_columns<F>(rows.data + column, rows.stride, std::min(panel_width<F>, columns - column),
                        rows.rows, out + panel * panel_width<F> * rows.rows);
    }
}

/// out [left rows, columns] = or += left [rows, depth] * the right factor in `panels`, whose panels
/// are `panel_size` apart.
template <class T>
void multiply_heads(HeadRows<const T> left, const T* panels, Index panel_size, Index depth,
                    HeadRows<T> out, Index columns, Write write) {
    using F = AttentionFactors<T>;
    for (Index column = 0; column < columns; column += panel_width<F>) {
        const T* const panel = panels + column / panel_width<F> * panel_size;
        multiply_rows<F>(left.rows, LeftFactor<const T>{left.data, left.stride}, panel, {panel},
                         depth, out.data + column, out.stride,
                         std::min(panel_width<F>, columns - column), write);
    }
}

}  // namespace mor::cpu::detail
