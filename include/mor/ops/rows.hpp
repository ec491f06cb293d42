// SPDX-License-Identifier: Apache-2.0
//
// Rows: the ragged structure of a packed batch. Every row knows its sequence and its original
// position in it; there is no padding anywhere.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/attention.hpp>
#include <mor/ops/shape_check.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace mor {

/// Sequence s owns rows [offsets[s], offsets[s + 1]), their positions ascending.
template <Backend B>
struct Rows {
    ConstIndexView<B> offsets;    // [sequences + 1], values in [0, rows]
    ConstIndexView<B> positions;  // [rows]
    // The same numbers where the host can read them without waiting for a device; empty if it does
    // not know them.
    std::span<const Index> host_offsets = {};
    std::span<const Index> host_positions = {};

    [[nodiscard]] Index size() const { return positions.size(); }
    [[nodiscard]] Index num_sequences() const { return offsets.size() - 1; }
    [[nodiscard]] bool knows_offsets() const { return !host_offsets.empty(); }
    /// Of rows without a row, that there are no positions.
    [[nodiscard]] bool knows_positions() const {
        return std::ssize(host_positions) == positions.size();
    }
};

/// Whether rows at the same position of different sequences draw the same number.
enum class Draw { by_position, by_sequence_and_position };

namespace op {
struct SelectRows {};
struct VisibleKeys {};
struct ComposeIndices {};
struct NumberRows {};
struct FillIndices {};
struct UniformByPosition {};
}  // namespace op

namespace ops {

namespace detail {

/// Lets the host read rows of a backend in host memory directly.
template <Backend B>
[[nodiscard]] Rows<B> readable(Rows<B> rows) {
    if constexpr (HostBackend<B>) {
        rows.host_offsets = {rows.offsets.data(), static_cast<std::size_t>(rows.offsets.size())};
        rows.host_positions = {rows.positions.data(),
                               static_cast<std::size_t>(rows.positions.size())};
    }
    return rows;
}

}  // namespace detail

/// The structure of the rows `kept` (ascending) of `rows`: same sequences, fewer rows.
/// The result lives in the context's arena; what the host knows of it is for the caller to add.
template <Backend B>
[[nodiscard]] Rows<B> select_rows(Context<B>& context, const Rows<B>& rows,
                                  ConstIndexView<B> kept) {
    const IndexView<B> offsets = context.indices(rows.offsets.size());
    const IndexView<B> positions = context.indices(kept.size());
    Kernel<op::SelectRows, B>::run(context, rows, kept, offsets, positions);
    return detail::readable<B>({offsets, positions});
}

/// For each query row, the key rows of the same sequence at its own or an earlier position.
/// `keys` must hold the same sequences, and for each query at least one visible key.
/// The result lives in the context's arena.
template <Backend B>
[[nodiscard]] KeyRanges<B> visible_keys(Context<B>& context, const Rows<B>& queries,
                                        const Rows<B>& keys) {
    expect_extents("visible_keys", "keys.offsets", keys.offsets, queries.offsets.extents());
    const IndexView<B> begin = context.indices(queries.size());
    const IndexView<B> end = context.indices(queries.size());
    Kernel<op::VisibleKeys, B>::run(context, queries, keys, begin, end);
    KeyRanges<B> ranges{begin, end, KeyRanges<B>::uncounted};
    if constexpr (HostBackend<B>) {
        ranges.pairs = count_pairs(context, ranges);
    } else if (queries.positions.data() == keys.positions.data() && queries.knows_offsets()) {
        ranges.pairs = 0;
        for (std::size_t s = 0; s + 1 < queries.host_offsets.size(); ++s) {
            const Index length = queries.host_offsets[s + 1] - queries.host_offsets[s];
            ranges.pairs += length * (length + 1) / 2;
        }
    }
    return ranges;
}

/// out[i] = i.
template <Backend B>
void number_rows(Context<B>& context, IndexView<B> out) {
    Kernel<op::NumberRows, B>::run(context, out);
}

/// Every element of out becomes `value`.
template <Backend B>
void fill_indices(Context<B>& context, Index value, IndexView<B> out) {
    Kernel<op::FillIndices, B>::run(context, value, out);
}

/// out[i] is uniform in [0, 1), a function of seed, stream and what `draw` says of row i alone.
/// out [rows].
template <Backend B>
void uniform_by_position(Context<B>& context, const Rows<B>& rows, Draw draw, std::uint64_t seed,
                         std::uint64_t stream, VectorView<B> out) {
    expect_extents("uniform_by_position", "out", out, {rows.size()});
    Kernel<op::UniformByPosition, B>::run(context, rows, draw, seed, stream, out);
}

/// out[i] = outer[inner[i]]. outer [n], inner [m] in [0, n), out [m].
template <Backend B>
void compose_indices(Context<B>& context, ConstIndexView<B> outer, ConstIndexView<B> inner,
                     IndexView<B> out) {
    expect_extents("compose_indices", "out", out, inner.extents());
    Kernel<op::ComposeIndices, B>::run(context, outer, inner, out);
}

}  // namespace ops
}  // namespace mor
