// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/linear.hpp>

using namespace backend_tests;
using mor::Write;

namespace {

struct Size {
    Index rows, in, out;
};

// Nothing, one, odd, a row of a model, more than a tile, and enough work for two threads.
constexpr Size sizes[] = {{0, 5, 3},  {1, 1, 1},     {1, 96, 70},   {7, 5, 3},
                          {7, 64, 1}, {130, 33, 17}, {130, 96, 96}, {3, 96, 300}};

// |a| |b|, the magnitude of which the rounding errors of a b are a fraction.
template <int Rank>
Tensor<double, Rank> magnitudes(View<const double, Rank> view) {
    Tensor<double, Rank> result{view.extents()};
    std::transform(view.data(), view.data() + view.size(), result.view().data(),
                   [](double x) { return std::abs(x); });
    return result;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("linear and its gradients agree with the oracle", B, linear_agrees) {
    for (const auto& [rows, in, out] : sizes) {
        for (const Write write : {Write::overwrite, Write::accumulate}) {
            CAPTURE(rows);
            CAPTURE(in);
            CAPTURE(out);
            CAPTURE(static_cast<int>(write));
            Bench<B> bench;
            auto x = bench.matrix(rows, in);
            auto weight = bench.matrix(out, in);
            auto y = bench.matrix(rows, out);
            auto dy = bench.matrix(rows, out);
            auto dx = bench.matrix(rows, in);
            auto dweight = bench.matrix(out, in);
            bench.run([&, write = write](auto side) {
                ops::linear(side.context, side(x), side(weight), side(y), write);
                ops::linear_backward_input(side.context, side(dy), side(weight), side(dx), write);
                ops::linear_backward_weight(side.context, side(dy), side(x), side(dweight));
            });
            bench.expect_agreement(y, in);
            bench.expect_agreement(dx, out);
            bench.expect_agreement(dweight, rows);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(linear_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("linear is accurate in every element, not only in the norm", B,
                          linear_componentwise) {
    Bench<B> bench;
    auto x = bench.matrix(40, 96);
    for (Index i = 0; i < 40; ++i) {  // rows of very different size
        for (Index j = 0; j < 96; ++j) {
            x.oracle.view()(i, j) *= std::ldexp(1.0, static_cast<int>(i) - 20);
        }
    }
    mor::testing::fill_from(x.tested.view(), mor::to_host(x.oracle.view()));
    auto weight = bench.matrix(50, 96);
    auto y = bench.matrix(40, 50);
    bench.run([&](auto side) { ops::linear(side.context, side(x), side(weight), side(y)); });

    Oracle oracle;
    Context<Oracle> context{oracle};
    const Tensor<double, 2> abs_x = magnitudes<2>(x.oracle.view());
    const Tensor<double, 2> abs_weight = magnitudes<2>(weight.oracle.view());
    Tensor<double, 2> magnitude{{40, 50}};
    ops::linear(context, abs_x.view(), abs_weight.view(), magnitude.view());
    const double tolerance = mor::testing::tolerance<typename B::Element>(96);
    const auto compare = [&] {
        return mor::testing::componentwise_mismatch(y.tested.view(), y.oracle.view(),
                                                    std::as_const(magnitude).view(), tolerance);
    };
    CHECK(compare() == "");
    // The smallest row is wrong by ten times what is allowed: the norm cannot see it, this can.
    y.oracle.view()(0, 7) += 10 * tolerance * magnitude.view()(0, 7);
    CHECK(mor::testing::mismatch(y.tested.view(), y.oracle.view(), tolerance) == "");
    CHECK(compare() != "");
}
TEST_CASE_TEMPLATE_APPLY(linear_componentwise, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("linear overwrites whatever was there, NaN included", B,
                          linear_overwrites) {
    using T = typename B::Element;
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<T, 2, typename B::Space> x{{2, 0}}, weight{{3, 0}}, y{{2, 3}};
    mor::testing::fill_from(y.view(), std::vector<double>(6, std::nan("")));
    ops::linear<B>(context, x.view(), weight.view(), y.view());  // an empty sum
    CHECK(mor::to_host(y.view()) == std::vector<T>(6, T{0}));

    Tensor<T, 2, typename B::Space> dy{{3, 4}}, w{{4, 5}}, dx{{3, 5}};
    mor::testing::fill_from(dx.view(), std::vector<double>(15, std::nan("")));
    ops::linear_backward_input<B>(context, dy.view(), w.view(), dx.view());
    CHECK(mor::to_host(dx.view()) == std::vector<T>(15, T{0}));
}
TEST_CASE_TEMPLATE_APPLY(linear_overwrites, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("linear counts two operations for each multiplication", B,
                          linear_counts) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<typename B::Element, 2, typename B::Space> x{{7, 5}}, weight{{3, 5}}, y{{7, 3}};
    ops::linear<B>(context, x.view(), weight.view(), y.view());
    CHECK(context.flops() == 2 * 7 * 5 * 3);
    ops::linear_backward_input<B>(context, y.view(), weight.view(), x.view());
    ops::linear_backward_weight<B>(context, y.view(), x.view(), weight.view());
    CHECK(context.flops() == 3 * 2 * 7 * 5 * 3);

    const mor::Parameter<B> parameter{"weight", {9, 5}, mor::WeightDecay::yes};
    Tensor<typename B::Element, 2, typename B::Space> wide_y{{7, 9}};
    ops::linear<B>(context, x.view(), parameter, wide_y.view());
    ops::linear_backward_input<B>(context, wide_y.view(), parameter, x.view());
    CHECK(context.flops() == 3 * 2 * 7 * 5 * 3 + 2 * 2 * 7 * 5 * 9);
}
TEST_CASE_TEMPLATE_APPLY(linear_counts, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("linear names the argument that does not fit", B, linear_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<typename B::Element, 2, typename B::Space> x{{7, 5}}, weight{{3, 5}}, y{{7, 3}};
    CHECK_THROWS_WITH_AS(ops::linear<B>(context, y.view(), weight.view(), y.view()),
                         "mor::ops::linear: x is [7, 3], expected [7, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear<B>(context, x.view(), weight.view(), x.view()),
                         "mor::ops::linear: y is [7, 5], expected [7, 3]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear_backward_input<B>(context, x.view(), weight.view(), x.view()),
                         "mor::ops::linear_backward_input: dy is [7, 5], expected [7, 3]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear_backward_input<B>(context, y.view(), weight.view(), y.view()),
                         "mor::ops::linear_backward_input: dx is [7, 3], expected [7, 5]",
                         mor::ShapeError);
    const mor::Parameter<B> parameter{"weight", {9, 5}, mor::WeightDecay::yes};
    CHECK_THROWS_WITH_AS(ops::linear<B>(context, x.view(), parameter, y.view()),
                         "mor::ops::linear: y is [7, 3], expected [7, 9]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear_backward_input<B>(context, y.view(), parameter, x.view()),
                         "mor::ops::linear_backward_input: dy is [7, 3], expected [7, 9]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear_backward_weight<B>(context, x.view(), x.view(), weight.view()),
                         "mor::ops::linear_backward_weight: dy is [7, 5], expected [7, 3]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::linear_backward_weight<B>(context, y.view(), y.view(), weight.view()),
                         "mor::ops::linear_backward_weight: x is [7, 3], expected [7, 5]",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(linear_shapes, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a row of a product does not depend on the others", B,
                          linear_is_invariant) {
    for (const Index depth : {1, 7, 64, 576, 2'560}) {  // products are cut at 2,048
        for (const Index columns : {1, 5, 48, 101}) {
            CAPTURE(depth);
            CAPTURE(columns);
            Bench<B> bench;
            auto& context = bench.context();
            auto x = bench.matrix(23, depth);
            auto w = bench.matrix(columns, depth);
            auto y = bench.matrix(23, columns);
            ops::linear<B>(context, x.tested.view(), w.tested.view(), y.tested.view());
            for (const Index rows : {1, 2, 3, 5, 9}) {
                const Index first = 23 - rows - 1;
                const auto part = context.matrix(rows, columns);
                ops::linear<B>(context, x.tested.view().slice(first, rows), w.tested.view(), part);
                CHECK(mor::to_host(mor::ConstMatrixView<B>{part}) ==
                      mor::to_host(mor::ConstMatrixView<B>{y.tested.view().slice(first, rows)}));
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(linear_is_invariant, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a packed weight gives the same bits, and follows what is written", B,
                          linear_packed) {
    using Matrix = Tensor<typename B::Element, 2, typename B::Space>;
    Bench<B> bench;
    auto& context = bench.context();
    const std::vector<Size> shapes{
        {3, 1, 1}, {9, 12, 7}, {9, 70, 101}, {17, 33, 48}, {5, 2'500, 50}};
    for (const auto& [rows, in, out] : shapes) {
        CAPTURE(in);
        mor::Parameter<B> weight{"weight", {out, in}, mor::WeightDecay::yes};
        weight.fill_normal(bench.random(), 1);
        Matrix x{{rows, in}}, dy{{rows, out}};  // of numbers that no factor is rounded to
        mor::testing::random_fill(x.view(), bench.random());
        mor::testing::random_fill(dy.view(), bench.random());
        for (int round = 0; round < 2; ++round) {
            const auto value = std::as_const(weight).value_matrix();
            Matrix y{{rows, out}}, dx{{rows, in}};
            ops::linear<B>(context, x.view(), value, y.view());
            ops::linear_backward_input<B>(context, dy.view(), value, dx.view());
            for (int use = 0; use < 2; ++use) {  // each half may have packed it for the other
                Matrix found_y{{rows, out}}, found_dx{{rows, in}};
                ops::linear<B>(context, x.view(), weight, found_y.view());
                ops::linear_backward_input<B>(context, dy.view(), weight, found_dx.view());
                CHECK(mor::to_host(found_y.view()) == mor::to_host(y.view()));
                CHECK(mor::to_host(found_dx.view()) == mor::to_host(dx.view()));
            }
            mor::testing::random_fill(weight.value(), bench.random());
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(linear_packed, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("sums longer than a panel is deep agree with the oracle", B,
                          linear_deep) {
    constexpr Index deep = 4'200;
    Bench<B> bench;
    auto x = bench.matrix(9, deep);
    auto weight = bench.matrix(50, deep);
    auto y = bench.matrix(9, 50);
    auto long_dy = bench.matrix(deep, 7);
    auto long_x = bench.matrix(deep, 50);
    auto dweight = bench.matrix(7, 50);
    auto wide_dy = bench.matrix(9, deep);
    auto wide_weight = bench.matrix(deep, 50);
    auto dx = bench.matrix(9, 50);
    bench.run([&](auto side) {
        ops::linear(side.context, side(x), side(weight), side(y), Write::accumulate);
        ops::linear_backward_weight(side.context, side(long_dy), side(long_x), side(dweight));
        ops::linear_backward_input(side.context, side(wide_dy), side(wide_weight), side(dx),
                                   Write::accumulate);
    });
    bench.expect_agreement(y, deep);
    bench.expect_agreement(dweight, deep);
    bench.expect_agreement(dx, deep);
}
TEST_CASE_TEMPLATE_APPLY(linear_deep, BackendsUnderTest);
