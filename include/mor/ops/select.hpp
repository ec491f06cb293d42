// SPDX-License-Identifier: Apache-2.0
//
// Choosing rows: the best k of each sequence, or those above a bound. Results are ascending.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

#include <optional>

namespace mor {

namespace op {
struct TopK {};
struct SelectGreater {};
struct SelectAtLeast {};
struct CapacityCounts {};
struct CountValues {};
}  // namespace op

/// Rows of a sequence of `length` that a step of that capacity takes: max(1, floor(capacity *
/// length)).
[[nodiscard]] constexpr Index capacity_count(Index length, double capacity) {
    const auto count = static_cast<Index>(capacity * static_cast<double>(length));
    return count > 1 ? count : 1;
}

namespace ops {

/// Writes, for each sequence s, the min(k[s], n) rows of [offsets[s], offsets[s + 1]) with the
/// largest scores; ties go to the lower row, and NaN counts as the lowest score. Returns how many
/// in all; if the caller knows that, `known`, nothing waits for a device.
/// scores [rows], offsets [sequences + 1], k [sequences], kept: room for [rows], ascending.
template <Backend B>
[[nodiscard]] Index top_k(Context<B>& context, ConstVectorView<B> scores, ConstIndexView<B> offsets,
                          ConstIndexView<B> k, IndexView<B> kept,
                          std::optional<Index> known = std::nullopt) {
    expect_extents("top_k", "offsets", offsets, {k.size() + 1});
    expect_extents("top_k", "kept", kept, {scores.size()});
    if constexpr (HostBackend<B>) {
        return Kernel<op::TopK, B>::run(context, scores, offsets, k, kept);
    } else {
        return Kernel<op::TopK, B>::run(context, scores, offsets, k, kept, known);
    }
}

/// out[s] = capacity_count(length of sequence s, capacity). offsets [sequences + 1], out
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
