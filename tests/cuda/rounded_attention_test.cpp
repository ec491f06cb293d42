// SPDX-License-Identifier: Apache-2.0
//
// Attention of queries, keys and values that are kept rounded, and what moves them: the same bits
// as of floats that hold the same numbers.
#include "backends/backends.hpp"
#include "cuda/rounded_numbers.hpp"
#include <mor/ops/attention.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/rope.hpp>

#include <numeric>

using namespace backend_tests;
using namespace rounded_numbers;
using mor::AttentionShape;

namespace {

/// Keys that rows see.
struct Ranges {
    std::vector<Index> begin;
    std::vector<Index> end;
    std::vector<Index> blocks = {};
    Index block_size = 0;
};

/// Sequences one after another, whose rows see their own and earlier keys.
[[nodiscard]] Ranges causal(const std::vector<Index>& lengths) {
    Ranges ranges;
    Index first = 0;
    for (const Index length : lengths) {
        for (Index i = 0; i < length; ++i) {
            ranges.begin.push_back(first);
            ranges.end.push_back(first + i + 1);
        }
        first += length;
    }
    return ranges;
}

/// As kernels take them, with the memory that they look at.
template <Backend B>
struct RangesOf {
    using Indices = Tensor<Index, 1, typename B::Space>;
    Indices begin, end, blocks;
    Index block_size;

    explicit RangesOf(const Ranges& ranges)
        : begin{{std::ssize(ranges.begin)}},
          end{{std::ssize(ranges.end)}},
          blocks{{std::ssize(ranges.blocks)}},
          block_size{ranges.block_size} {
        mor::from_host(begin.view(), ranges.begin);
        mor::from_host(end.view(), ranges.end);
        mor::from_host(blocks.view(), ranges.blocks);
    }
    [[nodiscard]] mor::KeyRanges<B> view() {
        return {begin.view(), end.view(), 0, blocks.view(), block_size};
    }
};

template <Backend B>
void expect_same_attention(const AttentionShape& shape, const Ranges& ranges, Index key_rows) {
    const Index rows = std::ssize(ranges.begin);
    CAPTURE(shape.heads);
    CAPTURE(shape.head_dim);
    CAPTURE(rows);
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{9};
    RangesOf<B> keys_of{ranges};
    const Index width = shape.heads * shape.head_dim;
    const Index key_width = shape.kv_heads * shape.head_dim;
    const auto input_q = rounded<B>(random_matrix<B>(rows, width, random));
    const auto input_k = rounded<B>(random_matrix<B>(key_rows, key_width, random));
    const auto input_v = rounded<B>(random_matrix<B>(key_rows, key_width, random));
    const auto q = widened<B>(input_q);
    const auto k = widened<B>(input_k);
    const auto v = widened<B>(input_v);
    Matrix<B> out{{rows, width}}, logsumexp{{rows, shape.heads}}, other{{rows, shape.heads}};
    Input<B> rounded_out{{rows, width}};
    ops::attention<B>(context, shape, q.view(), k.view(), v.view(), keys_of.view(), out.view(),
                      logsumexp.view());
    ops::attention<B>(context, shape, input_q.view(), input_k.view(), input_v.view(),
                      keys_of.view(), rounded_out.view(), other.view());
    CHECK(bits_of(as_const(rounded_out.view())) == bits_of(as_const(out.view())));
    CHECK(mor::to_host(other.view()) == mor::to_host(logsumexp.view()));
    if (keys_of.view().is_paged()) {
        return;
    }
    const auto input_dout = rounded<B>(random_matrix<B>(rows, width, random));
    Matrix<B> dq{{rows, width}}, dk{{key_rows, key_width}}, dv{{key_rows, key_width}};
    Matrix<B> other_dk{{key_rows, key_width}}, other_dv{{key_rows, key_width}};
    Input<B> rounded_dq{{rows, width}};
    ops::attention_backward<B>(context, shape, q.view(), k.view(), v.view(), keys_of.view(),
                               widened<B>(rounded_out).view(), logsumexp.view(),
                               widened<B>(input_dout).view(), dq.view(), dk.view(), dv.view());
    ops::attention_backward<B>(context, shape, input_q.view(), input_k.view(), input_v.view(),
                               keys_of.view(), rounded_out.view(), other.view(), input_dout.view(),
                               rounded_dq.view(), other_dk.view(), other_dv.view());
    CHECK(bits_of(as_const(rounded_dq.view())) == bits_of(as_const(dq.view())));
    CHECK(mor::to_host(other_dk.view()) == mor::to_host(dk.view()));
    CHECK(mor::to_host(other_dv.view()) == mor::to_host(dv.view()));
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("attention of rounded numbers gives the bits that floats give", B,
                          rounded_attention) {
    // Heads of whole packets and others, heads too wide for tiles of rounded numbers; as many rows
    // as have tiles of these, and fewer, of several sequences in a tile.
    for (const AttentionShape& shape :
         {AttentionShape{1, 1, 1}, AttentionShape{4, 2, 8}, AttentionShape{3, 1, 20},
          AttentionShape{2, 1, 64}, AttentionShape{1, 1, 160}, AttentionShape{1, 1, 264}}) {
        expect_same_attention<B>(shape, causal({70, 3, 1, 65}), 139);
        expect_same_attention<B>(shape, causal({40, 1, 7}), 48);
        expect_same_attention<B>(shape, {{0, 300}, {290, 301}}, 301);
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_attention, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("so does attention of paged keys, few and many", B, rounded_paged) {
    for (const Index dim : {5, 64}) {
        Ranges ranges{{0, 16}, {13, 16 + 300}, {}, 16};
        for (Index block = 0; block < 20; ++block) {
            ranges.blocks.push_back(19 - block);
        }
        expect_same_attention<B>({4, 2, dim}, ranges, 320);
        for (Index row = 0; row < 300; ++row) {  // so many that each has one team
            ranges.begin.push_back(16);
            ranges.end.push_back(16 + row + 1);
        }
        expect_same_attention<B>({4, 2, dim}, ranges, 320);
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_paged, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE(
    "of one rounded key, attention is its value, and its gradient 0 in float tiles", B,
    rounded_single_key) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{10};
    for (const Index rows : {1, 130}) {
        CAPTURE(rows);
        RangesOf<B> ranges{causal(std::vector<Index>(static_cast<std::size_t>(rows), 1))};
        const auto q = rounded<B>(random_matrix<B>(rows, 48, random));
        const auto k = rounded<B>(random_matrix<B>(rows, 24, random));
        const auto v = rounded<B>(random_matrix<B>(rows, 24, random));
        Input<B> out{{rows, 48}}, dq{{rows, 48}};
        Matrix<B> logsumexp{{rows, 2}}, dk{{rows, 24}}, dv{{rows, 24}};
        ops::attention<B>(context, {2, 1, 24}, q.view(), k.view(), v.view(), ranges.view(),
                          out.view(), logsumexp.view());
        for (Index head = 0; head < 2; ++head) {
            const auto last = as_const(out.view()).row(rows - 1).slice(24 * head, 24);
            CHECK(bits_of(View<const BFloat16, 2, typename B::Space>{last.data(), {1, 24}}) ==
                  bits_of(v.view().slice(rows - 1, 1)));
        }
        ops::attention_backward<B>(context, {2, 1, 24}, q.view(), k.view(), v.view(), ranges.view(),
                                   out.view(), logsumexp.view(), q.view(), dq.view(), dk.view(),
                                   dv.view());
        if (rows == 1) {  // with many, products may add in another order than delta
            CHECK(bits_of(as_const(dq.view())) == std::vector<std::uint16_t>(48, 0));
            CHECK(mor::to_host(dk.view()) == std::vector<float>(24, 0.0F));
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_single_key, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rope of rounded numbers rounds once", B, rounded_rope) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{11};
    for (const Index half_dim : {1, 3, 32}) {
        for (const mor::Rotation rotation : {mor::Rotation::forward, mor::Rotation::backward}) {
            CAPTURE(half_dim);
            auto input = rounded<B>(random_matrix<B>(7, 6 * half_dim, random));
            auto x = widened<B>(input);
            const auto cosine = random_matrix<B>(9, half_dim, random);
            const auto sine = random_matrix<B>(9, half_dim, random);
            Tensor<Index, 1, typename B::Space> positions{{7}};
            mor::from_host(positions.view(), std::vector<Index>{8, 0, 1, 1, 2, 5, 3});
            ops::rope<B>(context, positions.view(), cosine.view(), sine.view(), x.view(), rotation);
            ops::rope<B>(context, positions.view(), cosine.view(), sine.view(), input.view(),
                         rotation);
            CHECK(bits_of(as_const(input.view())) == bits_of(as_const(x.view())));
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_rope, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rows of rounded numbers move as they are", B, rounded_rows_move) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{12};
    const auto x = rounded<B>(random_matrix<B>(5, 13, random));
    Tensor<Index, 1, typename B::Space> rows{{5}};
    mor::from_host(rows.view(), std::vector<Index>{3, 0, 4, 1, 2});
    Input<B> moved{{5, 13}}, back{{5, 13}}, copy{{5, 13}};
    ops::gather_rows<B>(context, x.view(), rows.view(), moved.view());
    CHECK(bits_of(as_const(moved.view()).slice(0, 1)) == bits_of(x.view().slice(3, 1)));
    ops::scatter_rows<B>(context, moved.view(), rows.view(), back.view());
    CHECK(bits_of(as_const(back.view())) == bits_of(x.view()));
    ops::copy<B>(context, x.view(), copy.view());
    CHECK(bits_of(as_const(copy.view())) == bits_of(x.view()));
}
TEST_CASE_TEMPLATE_APPLY(rounded_rows_move, BackendsUnderTest);
