// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/optimizer.hpp>

using namespace backend_tests;
using mor::AdamWStep;

TEST_CASE_TEMPLATE_DEFINE("two steps of adamw by hand", B, adamw_by_hand) {
    Bench<B> bench;
    auto value = bench.vector_of({1});
    auto m = bench.vector_of({0});
    auto v = bench.vector_of({0});
    const auto step = [&](double correction, double gradient) {
        auto g = bench.vector_of({gradient});
        ops::adamw<B>(bench.context(),
                      {.learning_rate = 0.1,
                       .beta1 = 0.5,
                       .beta2 = 0.5,
                       .epsilon = 0.5,
                       .decay = 0.1,
                       .correction1 = correction,
                       .correction2 = correction,
                       .gradient_scale = 0.5},
                      g.tested.view(), value.tested.view(), m.tested.view(), v.tested.view());
    };
    // g = 0.5, m = 0.25, v = 0.125; corrected 0.5 and 0.25; 0.5 / (0.5 + 0.5) = 0.5.
    step(1 - 0.5, 1.0);
    bench.expect_values(m, {0.25}, 1);
    bench.expect_values(v, {0.125}, 1);
    bench.expect_values(value, {1 - 0.1 * (0.5 + 0.1 * 1)}, 1);
    // g = -0.1, m = 0.075, v = 0.0675; corrected 0.1 and 0.09; 0.1 / (0.3 + 0.5) = 0.125.
    step(1 - 0.25, -0.2);
    bench.expect_values(m, {0.075}, 1);
    bench.expect_values(v, {0.0675}, 1);
    bench.expect_values(value, {0.94 - 0.1 * (0.125 + 0.1 * 0.94)}, 1);
}
TEST_CASE_TEMPLATE_APPLY(adamw_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("adamw agrees with the oracle over several steps", B, adamw_agrees) {
    for (const Index size : {0, 1, 7, 1'000, 70'000}) {
        CAPTURE(size);
        Bench<B> bench;
        auto value = bench.vector(size);
        auto m = bench.vector(size, 0);
        auto v = bench.vector(size, 0);
        for (int t = 1; t <= 3; ++t) {
            auto gradient = bench.vector(size);
            const AdamWStep step{.learning_rate = 3e-3,
                                 .beta1 = 0.9,
                                 .beta2 = 0.95,
                                 .epsilon = 1e-8,
                                 .decay = 0.1,
                                 .correction1 = 1 - std::pow(0.9, t),
                                 .correction2 = 1 - std::pow(0.95, t),
                                 .gradient_scale = 0.3};
            bench.run([&](auto side) {
                ops::adamw(side.context, step, side(gradient), side(value), side(m), side(v));
            });
        }
        bench.expect_agreement(value, 3);
        bench.expect_agreement(m, 3);
        bench.expect_agreement(v, 3);
    }
}
TEST_CASE_TEMPLATE_APPLY(adamw_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("adamw without gradient only decays", B, adamw_decay) {
    Bench<B> bench;
    auto gradient = bench.vector_of({0, 0});
    auto value = bench.vector_of({2, -4});
    auto m = bench.vector_of({0, 0});
    auto v = bench.vector_of({0, 0});
    ops::adamw<B>(bench.context(),
                  {.learning_rate = 0.5, .beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8, .decay = 0.5},
                  gradient.tested.view(), value.tested.view(), m.tested.view(), v.tested.view());
    bench.expect_values(value, {1.5, -3}, 1);
}
TEST_CASE_TEMPLATE_APPLY(adamw_decay, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("sum_of_squares is accurate and takes any length", B, sum_of_squares) {
    Oracle oracle_backend;
    Context<Oracle> oracle{oracle_backend};
    for (const Index size : {0, 1, 7, 16'384, 70'001}) {
        CAPTURE(size);
        Bench<B> bench;
        auto x = bench.vector(size);
        const double expected = ops::sum_of_squares<Oracle>(oracle, x.oracle.view());
        const double actual = ops::sum_of_squares<B>(bench.context(), x.tested.view());
        // In double whatever the element type is.
        const double tolerance = mor::testing::tolerance<double>(size);
        CHECK(mor::testing::mismatch(actual, expected, tolerance) == "");
    }
    Bench<B> bench;
    auto x = bench.vector_of({3, 4, 1e30});  // the square of 1e30 overflows float
    const double expected = 25 + double{1e30F} * double{1e30F};
    const double actual = ops::sum_of_squares<B>(bench.context(), x.tested.view());
    CHECK(mor::testing::mismatch(actual, expected, mor::testing::tolerance<float>(1)) == "");
}
TEST_CASE_TEMPLATE_APPLY(sum_of_squares, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("adamw names the argument that does not fit", B, optimizer_shapes) {
    Bench<B> bench;
    auto a = bench.vector(7);
    auto b = bench.vector(6);
    const auto adamw = [&](auto& gradient, auto& m, auto& v) {
        ops::adamw<B>(bench.context(), {}, gradient.tested.view(), a.tested.view(), m.tested.view(),
                      v.tested.view());
    };
    CHECK_THROWS_WITH_AS(adamw(b, a, a), "mor::ops::adamw: gradient is [6], expected [7]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(adamw(a, b, a), "mor::ops::adamw: m is [6], expected [7]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(adamw(a, a, b), "mor::ops::adamw: v is [6], expected [7]",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(optimizer_shapes, BackendsUnderTest);
