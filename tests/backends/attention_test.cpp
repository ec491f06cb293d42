// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/attention.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/rows.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <utility>

using namespace backend_tests;
using mor::AttentionShape;

namespace {

// Which rows of the packed sequences ask; the others are only keys.
enum class Queries { all, some, last };

std::vector<Index> choose_queries(const std::vector<Index>& lengths, Queries queries) {
    std::vector<Index> rows;
    Index first = 0;
    for (const Index length : lengths) {
        for (Index i = 0; i < length; ++i) {
            const bool chosen = queries == Queries::all ||
                                (queries == Queries::some && i % 3 == 1) ||
                                (queries == Queries::last && i + 1 == length);
            if (chosen) {
                rows.push_back(first + i);
            }
        }
        first += length;
    }
    return rows;
}

/// Of the kernels of a GPU, whose edges are at other sizes than a processor's.
template <class B>
constexpr bool has_tiles = requires { typename B::System; };

template <class B>
constexpr bool rounds_weights = requires { typename B::System::AttentionFactor; };

// Of each result, what it changes by at most for each unit of relative error of p and ds. The
// error of p in `out` is one of delta, and thus of ds.
struct WeightErrors {
    Tensor<double, 2> out;
    Tensor<double, 2> dq;
    Tensor<double, 2> dk;
    Tensor<double, 2> dv;
};

struct AttentionCase {
    AttentionShape shape;
    std::vector<Index> begin;
    std::vector<Index> end;
    View<const double, 2> q, k, v, out, logsumexp, dout;
};

[[maybe_unused]] WeightErrors weight_errors(const AttentionCase& x) {
    WeightErrors errors{Tensor<double, 2>{x.q.extents()}, Tensor<double, 2>{x.q.extents()},
                        Tensor<double, 2>{x.k.extents()}, Tensor<double, 2>{x.k.extents()}};
    const Index dim = x.shape.head_dim;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    const auto dot = [](View<const double, 1> a, View<const double, 1> b) {
        return std::inner_product(a.data(), a.data() + a.size(), b.data(), 0.0);
    };
    for (Index i = 0; i < x.q.rows(); ++i) {
        for (Index h = 0; h < x.shape.heads; ++h) {
            const Index column = h * dim;
            const Index kv_column = h / (x.shape.heads / x.shape.kv_heads) * dim;
            const auto query = x.q.row(i).slice(column, dim);
            const auto dout = x.dout.row(i).slice(column, dim);
            const double delta = dot(dout, x.out.row(i).slice(column, dim));
            const auto weight = [&](Index j) {
                return std::exp(scale * dot(query, x.k.row(j).slice(kv_column, dim)) -
                                x.logsumexp(i, h));
            };
            const auto first = x.begin[static_cast<std::size_t>(i)];
            const auto last = x.end[static_cast<std::size_t>(i)];
            for (Index j = first; j < last; ++j) {
                const double p = weight(j);
                for (Index c = 0; c < dim; ++c) {
                    errors.out.view()(i, column + c) += p * std::abs(x.v(j, kv_column + c));
                }
            }
            double error_of_delta = 0;
            for (Index c = 0; c < dim; ++c) {
                error_of_delta += std::abs(dout[c]) * errors.out.view()(i, column + c);
            }
            for (Index j = first; j < last; ++j) {
                const double p = weight(j);
                const double dp = dot(dout, x.v.row(j).slice(kv_column, dim));
                const double ds = scale * p * (std::abs(dp - delta) + error_of_delta);
                for (Index c = 0; c < dim; ++c) {
                    errors.dq.view()(i, column + c) += ds * std::abs(x.k(j, kv_column + c));
                    errors.dk.view()(j, kv_column + c) += ds * std::abs(query[c]);
                    errors.dv.view()(j, kv_column + c) += p * std::abs(dout[c]);
                }
            }
        }
    }
    return errors;
}

// Agreement where p and ds are rounded to bfloat16, an error of 2^-8 at most; and a result that is
// wrong in one element by ten times what is allowed would not have passed.
template <class Numbers>
void expect_rounded_agreement(Numbers& pair, const Tensor<double, 2>& errors,
                              Index reduction_length) {
    const std::vector<double> expected = mor::to_host(pair.oracle.view());
    if (expected.empty()) {
        return;
    }
    double norm = 0;
    for (const double x : expected) {
        norm = std::max(norm, std::abs(x));
    }
    Tensor<double, 2> allowed{errors.extents()};
    for (Index i = 0; i < allowed.size(); ++i) {
        allowed.view().data()[i] = 0x1p-8 * errors.view().data()[i] +
                                   mor::testing::tolerance<float>(reduction_length) * norm;
    }
    const auto compare = [&] {
        return mor::testing::componentwise_mismatch(pair.tested.view(), pair.oracle.view(),
                                                    std::as_const(allowed).view(), 1.0);
    };
    CHECK(compare() == "");
    const Index middle = allowed.size() / 2;
    pair.oracle.view().data()[middle] += 10 * allowed.view().data()[middle];
    CHECK(compare() != "");
    pair.oracle.view().data()[middle] = expected[static_cast<std::size_t>(middle)];
}

// Attention of a ragged batch, forward and backward, against the oracle.
template <class B>
void expect_attention_agrees(const AttentionShape& shape, const std::vector<Index>& lengths,
                             Queries queries, double deviation) {
    CAPTURE(shape.heads);
    CAPTURE(shape.kv_heads);
    CAPTURE(shape.head_dim);
    CAPTURE(lengths.size());
    CAPTURE(static_cast<int>(queries));
    CAPTURE(deviation);

    std::vector<Index> offsets_of{0};
    std::vector<Index> positions_of;
    for (const Index length : lengths) {
        offsets_of.push_back(offsets_of.back() + length);
        for (Index position = 0; position < length; ++position) {
            positions_of.push_back(position);
        }
    }
    const std::vector<Index> query_rows = choose_queries(lengths, queries);
    const auto num_queries = static_cast<Index>(query_rows.size());
    const Index num_keys = offsets_of.back();
    const Index width = shape.heads * shape.head_dim;
    const Index kv_width = shape.kv_heads * shape.head_dim;

    Bench<B> bench;
    auto offsets = bench.integers(offsets_of);
    auto positions = bench.integers(positions_of);
    auto kept = bench.integers(query_rows);
    auto q = bench.matrix(num_queries, width, deviation);
    auto k = bench.matrix(num_keys, kv_width);
    auto v = bench.matrix(num_keys, kv_width);
    auto out = bench.matrix(num_queries, width);
    auto logsumexp = bench.matrix(num_queries, shape.heads);
    auto dout = bench.matrix(num_queries, width);
    auto dq = bench.matrix(num_queries, width);
    auto dk = bench.matrix(num_keys, kv_width);
    auto dv = bench.matrix(num_keys, kv_width);
    bench.run([&](auto side) {
        using S = typename decltype(side)::B;
        const mor::Rows<S> keys{side(offsets), side(positions)};
        const mor::Rows<S> asking = ops::select_rows<S>(side.context, keys, side(kept));
        const mor::KeyRanges<S> ranges = ops::visible_keys(side.context, asking, keys);
        ops::attention(side.context, shape, side(q), side(k), side(v), ranges, side(out),
                       side(logsumexp));
        ops::attention_backward(side.context, shape, side(q), side(k), side(v), ranges, side(out),
                                side(logsumexp), side(dout), side(dq), side(dk), side(dv));
    });
    const Index longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
    const Index group = shape.heads / shape.kv_heads;
    bench.expect_agreement(logsumexp, shape.head_dim + longest);
    if constexpr (rounds_weights<B>) {
        AttentionCase numbers{shape,
                              {},
                              {},
                              q.oracle.view(),
                              k.oracle.view(),
                              v.oracle.view(),
                              out.oracle.view(),
                              logsumexp.oracle.view(),
                              dout.oracle.view()};
        for (const Index row : query_rows) {
            const auto next = std::upper_bound(offsets_of.begin(), offsets_of.end(), row);
            numbers.begin.push_back(*std::prev(next));
            numbers.end.push_back(row + 1);
        }
        const WeightErrors errors = weight_errors(numbers);
        expect_rounded_agreement(out, errors.out, shape.head_dim + longest);
        expect_rounded_agreement(dq, errors.dq, shape.head_dim + longest);
        expect_rounded_agreement(dk, errors.dk, shape.head_dim + longest * group);
        expect_rounded_agreement(dv, errors.dv, shape.head_dim + longest * group);
    } else {
        bench.expect_agreement(out, shape.head_dim + longest);
        bench.expect_agreement(dq, shape.head_dim + longest);
        bench.expect_agreement(dk, shape.head_dim + longest * group);
        bench.expect_agreement(dv, shape.head_dim + longest * group);
    }
}

const std::vector<std::vector<Index>> batches = {{}, {1}, {5, 1, 0, 9}, {0, 200, 1, 67, 3}};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("attention and its gradients agree with the oracle", B,
                          attention_agrees) {
    for (const AttentionShape& shape :
         {AttentionShape{1, 1, 1}, AttentionShape{2, 2, 3}, AttentionShape{4, 2, 8},
          AttentionShape{9, 3, 64}, AttentionShape{4, 1, 16}}) {
        for (const std::vector<Index>& lengths : batches) {
            for (const Queries queries : {Queries::all, Queries::some, Queries::last}) {
                expect_attention_agrees<B>(shape, lengths, queries, 1.0);
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(attention_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention agrees where the softmax is nearly a choice", B,
                          attention_agrees_when_sharp) {
    expect_attention_agrees<B>({4, 2, 16}, {200, 30}, Queries::all, 8.0);
}
TEST_CASE_TEMPLATE_APPLY(attention_agrees_when_sharp, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention agrees for wide heads, and for few rows of many keys", B,
                          attention_agrees_at_its_edges) {
    expect_attention_agrees<B>({2, 1, 160}, {140, 3}, Queries::all, 1.0);
    expect_attention_agrees<B>({4, 2, 8}, {600, 30}, Queries::last, 1.0);
    // Several heads of a key, and columns that do not fill a vector.
    expect_attention_agrees<B>({8, 2, 64}, {70, 3, 1}, Queries::last, 1.0);
    expect_attention_agrees<B>({7, 1, 72}, {70, 3, 1}, Queries::last, 1.0);
    if (!has_tiles<B>) {
        return;
    }
    // Heads that fill a tile's columns, and not; wider than any tile of rounded factors.
    expect_attention_agrees<B>({2, 2, 24}, {129, 64, 65}, Queries::all, 1.0);
    expect_attention_agrees<B>({4, 2, 40}, {17, 16, 130}, Queries::all, 1.0);
    expect_attention_agrees<B>({3, 1, 128}, {130, 33}, Queries::all, 1.0);
    expect_attention_agrees<B>({1, 1, 256}, {131}, Queries::all, 1.0);
    expect_attention_agrees<B>({1, 1, 264}, {131}, Queries::all, 1.0);
}
TEST_CASE_TEMPLATE_APPLY(attention_agrees_at_its_edges, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention of one key is its value; large scores do not overflow", B,
                          attention_by_hand) {
    Bench<B> bench;
    auto q = bench.matrix_of(3, 1, {1000, 1000, 0});
    auto k = bench.matrix_of(3, 1, {1, 2, 3});
    auto v = bench.matrix_of(3, 1, {5, 7, 12});
    auto out = bench.matrix(3, 1);
    auto logsumexp = bench.matrix(3, 1);
    auto begin = bench.integers({0, 0, 0});
    auto end = bench.integers({1, 2, 3});
    const mor::KeyRanges<B> ranges{begin.tested.view(), end.tested.view(), 6};
    ops::attention<B>(bench.context(), {1, 1, 1}, q.tested.view(), k.tested.view(), v.tested.view(),
                      ranges, out.tested.view(), logsumexp.tested.view());
    bench.expect_values(out, {5, 7, 8}, 3);
    bench.expect_values(logsumexp, {1000, 2000, std::log(3.0)}, 3);
}
TEST_CASE_TEMPLATE_APPLY(attention_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention counts the operations of visible pairs only", B,
                          attention_counts) {
    Bench<B> bench;
    const AttentionShape shape{4, 2, 8};
    auto x = bench.matrix(3, 32);
    auto kv = bench.matrix(3, 16);
    auto out = bench.matrix(3, 32);
    auto logsumexp = bench.matrix(3, 4);
    auto begin = bench.integers({0, 0, 0});
    auto end = bench.integers({1, 2, 3});
    const mor::KeyRanges<B> ranges{begin.tested.view(), end.tested.view(), 6};
    ops::attention<B>(bench.context(), shape, x.tested.view(), kv.tested.view(), kv.tested.view(),
                      ranges, out.tested.view(), logsumexp.tested.view());
    CHECK(bench.context().flops() == 4 * 6 * 4 * 8);
}
TEST_CASE_TEMPLATE_APPLY(attention_counts, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention scratch does not grow with the square of the length", B,
                          attention_scratch) {
    const auto scratch_of = [](Index length) {
        Bench<B> bench;
        std::vector<Index> ends(static_cast<std::size_t>(length));
        for (std::size_t i = 0; i < ends.size(); ++i) {
            ends[i] = static_cast<Index>(i) + 1;
        }
        auto begin = bench.integers(std::vector<Index>(ends.size(), 0));
        auto end = bench.integers(ends);
        auto q = bench.matrix(length, 8);
        auto out = bench.matrix(length, 8);
        auto logsumexp = bench.matrix(length, 1);
        const mor::KeyRanges<B> ranges{begin.tested.view(), end.tested.view(), 0};
        ops::attention<B>(bench.context(), {1, 1, 8}, q.tested.view(), q.tested.view(),
                          q.tested.view(), ranges, out.tested.view(), logsumexp.tested.view());
        return bench.context().arena().capacity_bytes();
    };
    // A matrix of scores of this length would take 4 MiB or more; the arena grows by 1 MiB.
    CHECK(scratch_of(1'024) <= std::size_t{1} << 20);
}
TEST_CASE_TEMPLATE_APPLY(attention_scratch, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention names the argument that does not fit", B, attention_shapes) {
    using T = typename B::Element;
    using Space = typename B::Space;
    B backend = make_backend<B>();
    Context<B> context{backend};
    const AttentionShape shape{4, 2, 8};
    Tensor<T, 2, Space> q{{3, 32}}, k{{5, 16}}, lse{{3, 4}};
    Tensor<Index, 1, Space> three{{3}}, two{{2}};
    const auto forward = [&](const AttentionShape& s, auto& query, auto& key, auto& value,
                             auto& begin, auto& end, auto& out, auto& logsumexp) {
        const mor::KeyRanges<B> ranges{begin.view(), end.view(), 0};
        ops::attention<B>(context, s, query.view(), key.view(), value.view(), ranges, out.view(),
                          logsumexp.view());
    };
    CHECK_THROWS_WITH_AS(forward({4, 3, 8}, q, k, k, three, three, q, lse),
                         "mor::ops::attention: 4 heads cannot share 3 kv_heads", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward({4, 0, 8}, q, k, k, three, three, q, lse),
                         "mor::ops::attention: 4 heads cannot share 0 kv_heads", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, k, k, k, three, three, q, lse),
                         "mor::ops::attention: q is [5, 16], expected [5, 32]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, q, k, three, three, q, lse),
                         "mor::ops::attention: k is [3, 32], expected [3, 16]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, k, q, three, three, q, lse),
                         "mor::ops::attention: v is [3, 32], expected [5, 16]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, k, k, two, three, q, lse),
                         "mor::ops::attention: ranges.begin is [2], expected [3]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, k, k, three, two, q, lse),
                         "mor::ops::attention: ranges.end is [2], expected [3]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, k, k, three, three, k, lse),
                         "mor::ops::attention: out is [5, 16], expected [3, 32]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(shape, q, k, k, three, three, q, q),
                         "mor::ops::attention: logsumexp is [3, 32], expected [3, 4]",
                         mor::ShapeError);
    const auto backward = [&](auto& dout, auto& dq, auto& dk, auto& dv) {
        const mor::KeyRanges<B> ranges{three.view(), three.view(), 0};
        ops::attention_backward<B>(context, shape, q.view(), k.view(), k.view(), ranges, q.view(),
                                   lse.view(), dout.view(), dq.view(), dk.view(), dv.view());
    };
    CHECK_THROWS_WITH_AS(backward(k, q, k, k),
                         "mor::ops::attention_backward: dout is [5, 16], expected [3, 32]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(q, k, k, k),
                         "mor::ops::attention_backward: dq is [5, 16], expected [3, 32]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(q, q, q, k),
                         "mor::ops::attention_backward: dk is [3, 32], expected [5, 16]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(q, q, k, q),
                         "mor::ops::attention_backward: dv is [3, 32], expected [5, 16]",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(attention_shapes, BackendsUnderTest);

namespace {

// A query of all keys of each of these sequences, whose blocks are scattered, and one of the first
// half of the longest.
template <class B>
void expect_paged_attention_agrees(const AttentionShape& shape, Index block_size,
                                   const std::vector<Index>& lengths) {
    CAPTURE(block_size);
    CAPTURE(shape.head_dim);
    Bench<B> bench;
    std::vector<Index> blocks;
    std::vector<Index> begins;
    std::vector<Index> ends;
    for (const Index length : lengths) {
        begins.push_back(std::ssize(blocks) * block_size);
        ends.push_back(begins.back() + length);
        for (Index i = 0; i < (length + block_size - 1) / block_size; ++i) {
            blocks.push_back(std::ssize(blocks));
        }
    }
    std::reverse(blocks.begin(), blocks.end());
    const auto longest = std::max_element(lengths.begin(), lengths.end());
    begins.push_back(begins[static_cast<std::size_t>(longest - lengths.begin())]);
    ends.push_back(begins.back() + (*longest + 1) / 2);
    const Index rows = std::ssize(begins);
    const Index key_rows = std::ssize(blocks) * block_size;
    const Index width = shape.heads * shape.head_dim;
    const Index kv_width = shape.kv_heads * shape.head_dim;
    auto order = bench.integers(blocks);
    auto begin = bench.integers(begins);
    auto end = bench.integers(ends);
    auto q = bench.matrix(rows, width);
    auto k = bench.matrix(key_rows, kv_width);
    auto v = bench.matrix(key_rows, kv_width);
    auto out = bench.matrix(rows, width);
    auto logsumexp = bench.matrix(rows, shape.heads);
    bench.run([&](auto side) {
        using Side = typename decltype(side)::B;
        ops::attention<Side>(side.context, shape, side(q), side(k), side(v),
                             {side(begin), side(end), 0, side(order), block_size}, side(out),
                             side(logsumexp));
    });
    bench.expect_agreement(out, *longest);
    bench.expect_agreement(logsumexp, *longest);

    // The last row gets the same bits alone, and among so many that none is divided among teams.
    const auto last_of = [&](Index copies) {
        auto& context = bench.context();
        const auto count = static_cast<std::size_t>(copies);
        auto last = bench.integers(std::vector<Index>(count, rows - 1));
        auto its_begin = bench.integers(std::vector<Index>(count, begins.back()));
        auto its_end = bench.integers(std::vector<Index>(count, ends.back()));
        const auto queries = context.matrix(copies, width);
        const auto result = context.matrix(copies, width);
        const auto sums = context.matrix(copies, shape.heads);
        ops::gather_rows<B>(context, q.tested.view(), last.tested.view(), queries);
        ops::attention<B>(
            context, shape, queries, k.tested.view(), v.tested.view(),
            {its_begin.tested.view(), its_end.tested.view(), 0, order.tested.view(), block_size},
            result, sums);
        return mor::to_host(mor::ConstMatrixView<B>{result.slice(copies - 1, 1)});
    };
    const auto expected =
        mor::to_host(mor::ConstMatrixView<B>{out.tested.view().slice(rows - 1, 1)});
    CHECK(last_of(1) == expected);
    CHECK(last_of(1'024 / shape.heads + 1) == expected);
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("paged keys agree with the oracle, row by row", B,
                          paged_attention_agrees) {
    for (const Index block_size : {1, 3, 16, 64}) {
        expect_paged_attention_agrees<B>({4, 2, 8}, block_size, {1, 70, 20});
        expect_paged_attention_agrees<B>({9, 1, 5}, block_size, {1, 70, 20});
    }
}
TEST_CASE_TEMPLATE_APPLY(paged_attention_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("attention of few rows agrees, however many keys they see", B,
                          attention_of_many_keys_agrees) {
    const auto widths = has_tiles<B> ? std::vector<Index>{24, 40, 64, 128} : std::vector<Index>{40};
    for (const Index head_dim : widths) {
        expect_attention_agrees<B>({4, 2, head_dim}, {256, 257, 700}, Queries::last, 1.0);
        expect_paged_attention_agrees<B>({4, 2, head_dim}, 16, {257, 1, 700});
    }
    expect_paged_attention_agrees<B>({3, 1, 40}, 64, {512, 1'300, 513, 256});
}
TEST_CASE_TEMPLATE_APPLY(attention_of_many_keys_agrees, BackendsUnderTest);
