// SPDX-License-Identifier: Apache-2.0
//
// Grouped-query attention over packed ragged rows. What a query row may see is a half-open range
// of key rows; causality, recursion-wise caching and KV sharing are all only choices of ranges.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

#include <concepts>
#include <string_view>

namespace mor {

/// Query head h reads key head h / (heads / kv_heads). Scores are scaled by head_dim^-1/2.
struct AttentionShape {
    Index heads = 1;
    Index kv_heads = 1;
    Index head_dim = 1;
};

/// Query row i sees key rows [begin[i], end[i]); both [query rows]. Every range has at least one
/// key. Rows of one sequence follow each other, share their begin, and have growing ends; ranges of
/// different sequences do not overlap.
///
/// With `blocks`, keys are paged: number j of a range is row blocks[j / block_size] * block_size +
/// j % block_size, every range begins with a block, and query rows may come in any order. What a
/// row gets then depends on its own query and keys alone, to the bit.
template <Backend B>
struct KeyRanges {
    ConstIndexView<B> begin;
    ConstIndexView<B> end;
    // Visible (query, key) pairs in all, for counting operations; `uncounted` where only the device
    // could say.
    Index pairs = 0;
    ConstIndexView<B> blocks = {};
    Index block_size = 0;  // at most 64; 0: not paged
    static constexpr Index uncounted = -1;

    /// The same for kernels, which do not count: a pass over more keys then may be the same
    /// kernels with the same arguments.
    [[nodiscard]] KeyRanges without_count() const { return {begin, end, 0, blocks, block_size}; }

    [[nodiscard]] bool is_paged() const { return block_size > 0; }
    /// Where key number j of a range is. For kernels: reads memory of the backend.
    [[nodiscard]] Index row_of(Index j) const {
        return is_paged() ? blocks[j / block_size] * block_size + j % block_size : j;
    }
};

namespace op {
struct Attention {};
struct AttentionBackward {};
struct AddPairs {};  // run(context, begin, end, factor, sum): sum[0] += factor * (visible pairs)
}  // namespace op

namespace ops {

namespace detail {

template <Backend B, class Q, class K>
void check_attention(std::string_view name, const AttentionShape& shape, Q q, K k, K v,
                     const KeyRanges<B>& ranges) {
    check<ShapeError>(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "mor::ops::", name,
                      ": ", shape.heads, " heads cannot share ", shape.kv_heads, " kv_heads");
    expect_extents(name, "q", q, {q.rows(), shape.heads * shape.head_dim});
    expect_extents(name, "k", k, {k.rows(), shape.kv_heads * shape.head_dim});
    expect_extents(name, "v", v, k.extents());
    expect_extents(name, "ranges.begin", ranges.begin, {q.rows()});
    expect_extents(name, "ranges.end", ranges.end, {q.rows()});
    check<ShapeError>(ranges.block_size >= 0 && ranges.block_size <= 64, "mor::ops::", name,
                      ": block_size is ", ranges.block_size, ", expected 0 to 64");
}

/// Counts `flops` for each visible pair.
template <Backend B>
void count_flops_of_pairs(Context<B>& context, const KeyRanges<B>& ranges, double flops) {
    if (ranges.pairs == KeyRanges<B>::uncounted) {
        Kernel<op::AddPairs, B>::run(context, ranges.begin, ranges.end, flops,
                                     context.device_flops());
    } else {
        context.count_flops(flops * static_cast<double>(ranges.pairs));
    }
}

}  // namespace detail

/// Visible pairs in all; waits for the device if it has to count them.
template <Backend B>
[[nodiscard]] Index count_pairs(Context<B>& context, const KeyRanges<B>& ranges) {
    if (ranges.pairs != KeyRanges<B>::uncounted) {
        return ranges.pairs;
    }
    const typename Arena<typename B::Space>::Scope scope{context.arena()};
    const SumView<B> sum = context.arena().template make_zero<double, 1>({1});
    Kernel<op::AddPairs, B>::run(context, ranges.begin, ranges.end, 1.0, sum);
    double pairs = 0;
    B::Space::copy_to_host(&pairs, sum.data(), sizeof(pairs));
    return static_cast<Index>(pairs);
}

/// out[i, h] = sum_j softmax_j(q[i, h] . k[j, h'] / sqrt(head_dim)) v[j, h'], j in the row's range.
/// q, out [rows, heads * head_dim]; k, v [key rows, kv_heads * head_dim], of the same numbers as q;
/// logsumexp [rows, heads] receives the log of each softmax's denominator, for the backward pass.
/// Scratch memory does not depend on the square of any length.
template <Backend B, ProductInput<B> Q, ProductInput<B> K, ProductOutput<B> Out>
    requires std::same_as<typename Q::Number, typename K::Number>
void attention(Context<B>& context, const AttentionShape& shape, Q q, K k, K v,
               const KeyRanges<B>& ranges, Out out, MatrixView<B> logsumexp) {
    detail::check_attention<B>("attention", shape, q, k, v, ranges);
    expect_extents("attention", "out", out, q.extents());
    expect_extents("attention", "logsumexp", logsumexp, {q.rows(), shape.heads});
    detail::count_flops_of_pairs(context, ranges,
                                 4.0 * static_cast<double>(shape.heads * shape.head_dim));
    Kernel<op::Attention, B>::run(context, shape, ReadOnly<B, Q>{q}, ReadOnly<B, K>{k},
                                  ReadOnly<B, K>{v}, ranges.without_count(), out, logsumexp);
}

/// Overwrites dq [rows, heads * head_dim] and adds to dk, dv [key rows, kv_heads * head_dim]. q, k,
/// v, out and logsumexp as in attention; dout [rows, heads * head_dim].
template <Backend B, ProductInput<B> Q, ProductInput<B> K, ProductInput<B> Out,
          ProductInput<B> DOut, ProductOutput<B> DQ>
    requires std::same_as<typename Q::Number, typename K::Number>
void attention_backward(Context<B>& context, const AttentionShape& shape, Q q, K k, K v,
                        const KeyRanges<B>& ranges, Out out, ConstMatrixView<B> logsumexp,
                        DOut dout, DQ dq, MatrixView<B> dk, MatrixView<B> dv) {
    detail::check_attention<B>("attention_backward", shape, q, k, v, ranges);
    check<ShapeError>(!ranges.is_paged(), "mor::ops::attention_backward: keys are paged");
    expect_extents("attention_backward", "out", out, q.extents());
    expect_extents("attention_backward", "logsumexp", logsumexp, {q.rows(), shape.heads});
    expect_extents("attention_backward", "dout", dout, q.extents());
    expect_extents("attention_backward", "dq", dq, q.extents());
    expect_extents("attention_backward", "dk", dk, k.extents());
    expect_extents("attention_backward", "dv", dv, k.extents());
    // The scores are computed again, but only the four products of the gradient are counted.
    detail::count_flops_of_pairs(context, ranges,
                                 8.0 * static_cast<double>(shape.heads * shape.head_dim));
    Kernel<op::AttentionBackward, B>::run(context, shape, ReadOnly<B, Q>{q}, ReadOnly<B, K>{k},
                                          ReadOnly<B, K>{v}, ranges.without_count(),
                                          ReadOnly<B, Out>{out}, logsumexp, ReadOnly<B, DOut>{dout},
                                          dq, dk, dv);
}

}  // namespace ops
}  // namespace mor
