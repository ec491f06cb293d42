// SPDX-License-Identifier: Apache-2.0
//
// Choosing rows: the best k of each sequence, or those above a bound. Results are ascending.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct TopK {};
struct SelectGreater {};
struct SelectAtLeast {};
struct CapacityCounts {};
struct CountValues {};
}  // namespace op

namespace ops {

/// Writes, for each sequence s, the min(k[s], n) rows of [offsets[s], offsets[s + 1]) with the
/// largest scores; ties go to the lower row, and NaN counts as the lowest score. Returns how many
/// in all.
/// scores [rows], offsets [sequences + 1], k [sequences], kept: room for [rows], ascending.
template <Backend B>
[[nodiscard]] Index top_k(Context<B>& context, ConstVectorView<B> scores, ConstIndexView<B> offsets,
                          ConstIndexView<B> k, IndexView<B> kept) {
    expect_extents("top_k", "offsets", offsets, {k.size() + 1});
    expect_extents("top_k", "kept", kept, {scores.size()});
    return Kernel<op::TopK, B>::run(context, scores, offsets, k, kept);
}

/// out[s] = max(1, floor(capacity * length of sequence s)). offsets [sequences + 1], out
/// [sequences].
template <Backend B>
void capacity_counts(Context<B>& context, ConstIndexView<B> offsets, double capacity,
                     IndexView<B> out) {
    expect_extents("capacity_counts", "offsets", offsets, {out.size() + 1});
    Kernel<op::CapacityCounts, B>::run(context, offsets, capacity, out);
}

/// counts[v] += how often v occurs in `values`. values [n] in [0, size), counts [size].
template <Backend B>
void count_values(Context<B>& context, ConstIndexView<B> values, IndexView<B> counts) {
    Kernel<op::CountValues, B>::run(context, values, counts);
}

/// Writes the rows with score > bound, ascending; returns how many. kept: room for [rows].
template <Backend B>
[[nodiscard]] Index select_greater(Context<B>& context, ConstVectorView<B> scores, double bound,
                                   IndexView<B> kept) {
    expect_extents("select_greater", "kept", kept, {scores.size()});
    return Kernel<op::SelectGreater, B>::run(context, scores, bound, kept);
}

/// Writes the i with depth[rows[i]] >= bound, ascending; returns how many.
/// depth [n], rows [m] in [0, n), kept: room for [m].
template <Backend B>
[[nodiscard]] Index select_at_least(Context<B>& context, ConstIndexView<B> depth,
                                    ConstIndexView<B> rows, Index bound, IndexView<B> kept) {
    expect_extents("select_at_least", "kept", kept, {rows.size()});
    return Kernel<op::SelectAtLeast, B>::run(context, depth, rows, bound, kept);
}

}  // namespace ops
}  // namespace mor
