// SPDX-License-Identifier: Apache-2.0
//
// Rows: the ragged structure of a packed batch. Every row knows its sequence and its original
// position in it; there is no padding anywhere.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/attention.hpp>
#include <mor/ops/shape_check.hpp>

#include <cstdint>

namespace mor {

/// Sequence s owns rows [offsets[s], offsets[s + 1]), their positions ascending.
template <Backend B>
struct Rows {
    ConstIndexView<B> offsets;    // [sequences + 1], values in [0, rows]
    ConstIndexView<B> positions;  // [rows]

    [[nodiscard]] Index size() const { return positions.size(); }
    [[nodiscard]] Index num_sequences() const { return offsets.size() - 1; }
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

/// The structure of the rows `kept` (ascending) of `rows`: same sequences, fewer rows.
/// The result lives in the context's arena.
template <Backend B>
[[nodiscard]] Rows<B> select_rows(Context<B>& context, const Rows<B>& rows,
                                  ConstIndexView<B> kept) {
    const IndexView<B> offsets = context.indices(rows.offsets.size());
    const IndexView<B> positions = context.indices(kept.size());
    Kernel<op::SelectRows, B>::run(context, rows, kept, offsets, positions);
    return {offsets, positions};
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
    const Index pairs = Kernel<op::VisibleKeys, B>::run(context, queries, keys, begin, end);
    return {begin, end, pairs};
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
