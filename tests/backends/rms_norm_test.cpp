// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/rms_norm.hpp>

using namespace backend_tests;

TEST_CASE_TEMPLATE_DEFINE("rms_norm and its gradient agree with the oracle", B, rms_norm_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        for (const Index hidden : {1, 5, 32, 96, 577}) {
            CAPTURE(rows);
            CAPTURE(hidden);
            Bench<B> bench;
            auto x = bench.matrix(rows, hidden);
            auto weight = bench.vector(hidden);
            auto y = bench.matrix(rows, hidden);
            auto inverse_rms = bench.vector(rows);
            auto dy = bench.matrix(rows, hidden);
            auto dx = bench.matrix(rows, hidden);
            auto dweight = bench.vector(hidden);
            bench.run([&](auto side) {
                ops::rms_norm(side.context, side(x), side(weight), 1e-5, side(y),
                              side(inverse_rms));
                ops::rms_norm_backward(side.context, side(dy), side(x), side(weight),
                                       side(inverse_rms), side(dx), side(dweight));
            });
            bench.expect_agreement(y, hidden);
            bench.expect_agreement(inverse_rms, hidden);
            bench.expect_agreement(dx, hidden);
            bench.expect_agreement(dweight, rows + hidden);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rms_norm_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rms_norm may write over its input, of which it makes a copy if asked to",
                          B, rms_norm_in_place) {
    Bench<B> bench;
    auto x = bench.matrix(33, 96);
    auto weight = bench.vector(96);
    auto inverse_rms = bench.vector(33);
    auto y = bench.matrix(33, 96);
    auto copy = bench.matrix(33, 96);
    const auto before = mor::to_host(x.tested.view());
    bench.run([&](auto side) {
        ops::rms_norm(side.context, side(x), side(weight), 1e-5, side(y), side(inverse_rms));
        ops::rms_norm(side.context, side(x), side(weight), 1e-5, side(x), side(inverse_rms),
                      side(copy));
    });
    bench.expect_agreement(x, 96);
    CHECK(mor::to_host(x.tested.view()) == mor::to_host(y.tested.view()));
    CHECK(mor::to_host(copy.tested.view()) == before);
}
TEST_CASE_TEMPLATE_APPLY(rms_norm_in_place, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rms_norm of known rows, zero included", B, rms_norm_by_hand) {
    Bench<B> bench;
    // mean(x^2) + epsilon is 12.5 + 3.5 = 16 in the first row, 3.5 in the second.
    auto x = bench.matrix_of(2, 2, {3, 4, 0, 0});
    auto weight = bench.vector_of({8, -4});
    auto y = bench.matrix(2, 2);
    auto inverse_rms = bench.vector(2);
    ops::rms_norm<B>(bench.context(), x.tested.view(), weight.tested.view(), 3.5, y.tested.view(),
                     inverse_rms.tested.view());
    bench.expect_values(y, {6, -4, 0, 0}, 2);
    bench.expect_values(inverse_rms, {0.25, 1 / std::sqrt(3.5)}, 2);
}
TEST_CASE_TEMPLATE_APPLY(rms_norm_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rms_norm names the argument that does not fit", B, rms_norm_shapes) {
    using T = typename B::Element;
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<T, 2, typename B::Space> x{{7, 5}}, wrong{{7, 4}};
    Tensor<T, 1, typename B::Space> five{{5}}, seven{{7}};
    const auto forward = [&](auto& weight, auto& y, auto& inverse_rms) {
        ops::rms_norm<B>(context, x.view(), weight.view(), 1e-5, y.view(), inverse_rms.view());
    };
    CHECK_THROWS_WITH_AS(forward(seven, x, seven),
                         "mor::ops::rms_norm: weight is [7], expected [5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(five, wrong, seven),
                         "mor::ops::rms_norm: y is [7, 4], expected [7, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(five, x, five),
                         "mor::ops::rms_norm: inverse_rms is [5], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(ops::rms_norm<B>(context, x.view(), five.view(), 1e-5, x.view(),
                                          seven.view(), wrong.view()),
                         "mor::ops::rms_norm: copy is [7, 4], expected [7, 5]", mor::ShapeError);
    const auto backward = [&](auto& dy, auto& weight, auto& inverse_rms, auto& dx, auto& dweight) {
        ops::rms_norm_backward<B>(context, dy.view(), x.view(), weight.view(), inverse_rms.view(),
                                  dx.view(), dweight.view());
    };
    CHECK_THROWS_WITH_AS(backward(wrong, five, seven, x, five),
                         "mor::ops::rms_norm_backward: dy is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(x, seven, seven, x, five),
                         "mor::ops::rms_norm_backward: weight is [7], expected [5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(x, five, five, x, five),
                         "mor::ops::rms_norm_backward: inverse_rms is [5], expected [7]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(x, five, seven, wrong, five),
                         "mor::ops::rms_norm_backward: dx is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(x, five, seven, x, seven),
                         "mor::ops::rms_norm_backward: dweight is [7], expected [5]",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(rms_norm_shapes, BackendsUnderTest);
