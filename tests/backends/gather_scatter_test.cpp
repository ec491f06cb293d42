// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/gather_scatter.hpp>

#include <numeric>

using namespace backend_tests;

namespace {

// `count` distinct rows below `rows`, in no order.
std::vector<Index> distinct_rows(mor::Random& random, Index rows, Index count) {
    std::vector<Index> all(static_cast<std::size_t>(rows));
    std::iota(all.begin(), all.end(), Index{0});
    for (std::size_t i = all.size(); i > 1; --i) {
        std::swap(all[i - 1], all[static_cast<std::size_t>(random.below(static_cast<Index>(i)))]);
    }
    all.resize(static_cast<std::size_t>(count));
    return all;
}

struct Size {
    Index rows, chosen, width;
};
// The last does not fit into a processor's own caches.
constexpr Size sizes[] = {{0, 0, 4},  {1, 1, 1},     {7, 0, 5},       {7, 3, 5},
                          {7, 7, 96}, {130, 60, 33}, {130, 130, 300}, {2'100, 1'300, 520}};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("gathering and scattering rows agree with the oracle", B,
                          gather_scatter_agrees) {
    for (const auto& [n, m, width] : sizes) {
        CAPTURE(n);
        CAPTURE(m);
        CAPTURE(width);
        Bench<B> bench;
        auto rows = bench.integers(distinct_rows(bench.random(), n, m));
        auto full = bench.matrix(n, width);
        auto part = bench.matrix(m, width);
        auto weight = bench.vector(m);
        auto gathered = bench.matrix(m, width);
        auto weighted = bench.matrix(m, width);
        auto scattered = bench.matrix(n, width);
        auto added = bench.matrix(n, width);
        auto added_weighted = bench.matrix(n, width);
        auto dots = bench.vector(m);
        bench.run([&](auto side) {
            auto& context = side.context;
            ops::gather_rows(context, side(full), side(rows), side(gathered));
            ops::gather_rows_weighted(context, side(full), side(rows), side(weight),
                                      side(weighted));
            ops::scatter_rows(context, side(part), side(rows), side(scattered));
            ops::scatter_add_rows(context, side(part), side(rows), side(added));
            ops::scatter_add_rows_weighted(context, side(part), side(rows), side(weight),
                                           side(added_weighted));
            ops::row_dot(context, side(full), side(rows), side(part), side(dots));
        });
        bench.expect_agreement(gathered, 1);
        bench.expect_agreement(weighted, 1);
        bench.expect_agreement(scattered, 1);
        bench.expect_agreement(added, 1);
        bench.expect_agreement(added_weighted, 1);
        bench.expect_agreement(dots, width);
    }
}
TEST_CASE_TEMPLATE_APPLY(gather_scatter_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gather_rows may repeat a row, and then scatter only touches its rows", B,
                          gather_scatter_by_hand) {
    Bench<B> bench;
    auto& context = bench.context();
    auto x = bench.matrix_of(3, 2, {1, 2, 3, 4, 5, 6});
    auto repeated = bench.integers({2, 2, 0});
    auto out = bench.matrix(3, 2);
    ops::gather_rows<B>(context, x.tested.view(), repeated.tested.view(), out.tested.view());
    CHECK(text(mor::to_host(out.tested.view())) == "5 6 5 6 1 2");

    auto rows = bench.integers({2, 0});
    auto part = bench.matrix_of(2, 2, {10, 20, 30, 40});
    auto weight = bench.vector_of({2, -1});
    ops::scatter_add_rows<B>(context, part.tested.view(), rows.tested.view(), x.tested.view());
    CHECK(text(mor::to_host(x.tested.view())) == "31 42 3 4 15 26");
    ops::scatter_add_rows_weighted<B>(context, part.tested.view(), rows.tested.view(),
                                      weight.tested.view(), x.tested.view());
    CHECK(text(mor::to_host(x.tested.view())) == "1 2 3 4 35 66");
    ops::scatter_rows<B>(context, part.tested.view(), rows.tested.view(), x.tested.view());
    CHECK(text(mor::to_host(x.tested.view())) == "30 40 3 4 10 20");
}
TEST_CASE_TEMPLATE_APPLY(gather_scatter_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gathering and scattering name the argument that does not fit", B,
                          gather_scatter_shapes) {
    using T = typename B::Element;
    using Space = typename B::Space;
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<T, 2, Space> full{{9, 5}}, part{{3, 5}}, wrong{{4, 5}};
    Tensor<Index, 1, Space> rows{{3}};
    Tensor<T, 1, Space> weight{{3}}, four{{4}};
    const auto x = full.view();
    const auto r = rows.view();
    CHECK_THROWS_WITH_AS(ops::gather_rows<B>(context, x, r, wrong.view()),
                         "mor::ops::gather_rows: out is [4, 5], expected [3, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::gather_rows_weighted<B>(context, x, r, weight.view(), wrong.view()),
                         "mor::ops::gather_rows_weighted: out is [4, 5], expected [3, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::gather_rows_weighted<B>(context, x, r, four.view(), part.view()),
                         "mor::ops::gather_rows_weighted: weight is [4], expected [3]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::scatter_rows<B>(context, wrong.view(), r, x),
                         "mor::ops::scatter_rows: x is [4, 5], expected [3, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::scatter_add_rows<B>(context, wrong.view(), r, x),
                         "mor::ops::scatter_add_rows: x is [4, 5], expected [3, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(
        ops::scatter_add_rows_weighted<B>(context, wrong.view(), r, weight.view(), x),
        "mor::ops::scatter_add_rows_weighted: x is [4, 5], expected [3, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::scatter_add_rows_weighted<B>(context, part.view(), r, four.view(), x),
                         "mor::ops::scatter_add_rows_weighted: weight is [4], expected [3]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::row_dot<B>(context, x, r, wrong.view(), weight.view()),
                         "mor::ops::row_dot: b is [4, 5], expected [3, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::row_dot<B>(context, x, r, part.view(), four.view()),
                         "mor::ops::row_dot: out is [4], expected [3]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(gather_scatter_shapes, BackendsUnderTest);
