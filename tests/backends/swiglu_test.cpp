// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/swiglu.hpp>

using namespace backend_tests;

TEST_CASE_TEMPLATE_DEFINE("swiglu and its gradient agree with the oracle", B, swiglu_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        for (const Index width : {1, 5, 64, 96}) {
            CAPTURE(rows);
            CAPTURE(width);
            Bench<B> bench;
            auto gate = bench.matrix(rows, width, 3);
            auto up = bench.matrix(rows, width);
            auto y = bench.matrix(rows, width);
            auto dy = bench.matrix(rows, width);
            auto dgate = bench.matrix(rows, width);
            auto dup = bench.matrix(rows, width);
            bench.run([&](auto side) {
                ops::swiglu(side.context, side(gate), side(up), side(y));
                ops::swiglu_backward(side.context, side(gate), side(up), side(dy), side(dgate),
                                     side(dup));
            });
            bench.expect_agreement(y, 1);
            bench.expect_agreement(dgate, 1);
            bench.expect_agreement(dup, 1);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(swiglu_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("swiglu may write over gate or up, its gradient over dy", B,
                          swiglu_in_place) {
    for (const bool first : {true, false}) {
        CAPTURE(first);
        Bench<B> bench;
        auto gate = bench.matrix(70, 96);
        auto up = bench.matrix(70, 96);
        auto dy = bench.matrix(70, 96);
        auto other = bench.matrix(70, 96);
        bench.run([&](auto side) {
            const auto d = side(dy);
            ops::swiglu_backward(side.context, side(gate), side(up), d, first ? d : side(other),
                                 first ? side(other) : d);
            ops::swiglu(side.context, side(gate), side(up), first ? side(gate) : side(up));
        });
        bench.expect_agreement(dy, 1);
        bench.expect_agreement(other, 1);
        bench.expect_agreement(first ? gate : up, 1);
    }
}
TEST_CASE_TEMPLATE_APPLY(swiglu_in_place, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("swiglu is finite for gates of any size", B, swiglu_extremes) {
    Bench<B> bench;
    auto gate = bench.matrix_of(1, 4, {0, 1e4, -1e4, -100});
    auto up = bench.matrix_of(1, 4, {3, 2, 2, 1});
    auto y = bench.matrix(1, 4);
    auto dgate = bench.matrix(1, 4);
    auto dup = bench.matrix(1, 4);
    auto dy = bench.matrix_of(1, 4, {1, 1, 1, 1});
    ops::swiglu<B>(bench.context(), gate.tested.view(), up.tested.view(), y.tested.view());
    bench.expect_values(y, {0, 2e4, 0, 0}, 1);
    ops::swiglu_backward<B>(bench.context(), gate.tested.view(), up.tested.view(), dy.tested.view(),
                            dgate.tested.view(), dup.tested.view());
    bench.expect_values(dgate, {1.5, 2, 0, 0}, 1);
    bench.expect_values(dup, {0, 1e4, 0, 0}, 1);
}
TEST_CASE_TEMPLATE_APPLY(swiglu_extremes, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("swiglu names the argument that does not fit", B, swiglu_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<typename B::Element, 2, typename B::Space> a{{7, 5}}, b{{7, 4}};
    const auto forward = [&](auto& up, auto& y) {
        ops::swiglu<B>(context, a.view(), up.view(), y.view());
    };
    CHECK_THROWS_WITH_AS(forward(b, a), "mor::ops::swiglu: up is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(forward(a, b), "mor::ops::swiglu: y is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    const auto backward = [&](auto& up, auto& dy, auto& dgate, auto& dup) {
        ops::swiglu_backward<B>(context, a.view(), up.view(), dy.view(), dgate.view(), dup.view());
    };
    CHECK_THROWS_WITH_AS(backward(b, a, a, a),
                         "mor::ops::swiglu_backward: up is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(a, b, a, a),
                         "mor::ops::swiglu_backward: dy is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(a, a, b, a),
                         "mor::ops::swiglu_backward: dgate is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(backward(a, a, a, b),
                         "mor::ops::swiglu_backward: dup is [7, 4], expected [7, 5]",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(swiglu_shapes, BackendsUnderTest);
