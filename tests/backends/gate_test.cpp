// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/gate.hpp>
#include <mor/ops/gelu.hpp>
#include <mor/ops/router_loss.hpp>
#include <mor/ops/scale.hpp>

using namespace backend_tests;

namespace {

// Every other row, ascending.
std::vector<Index> every_other(Index rows) {
    std::vector<Index> kept;
    for (Index i = 0; i < rows; i += 2) {
        kept.push_back(i);
    }
    return kept;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("gates agree with the oracle", B, gates_agree) {
    for (const mor::GateFunction function : enum_values(mor::GateFunction{})) {
        for (const Index rows : {1, 7, 130}) {
            for (const Index depths : {1, 3, 8, 17}) {
                CAPTURE(to_string(function));
                CAPTURE(rows);
                CAPTURE(depths);
                Bench<B> bench;
                auto logits = bench.matrix(rows, depths, 2);
                auto gate = bench.matrix(rows, depths);
                auto best = bench.integers(std::vector<Index>(static_cast<std::size_t>(rows), -1));
                auto bias = bench.vector(depths);
                auto picked = bench.vector(rows);
                auto dgate = bench.matrix(rows, depths);
                auto dlogits = bench.matrix(rows, depths);
                bench.run([&](auto side) {
                    auto& context = side.context;
                    ops::gate(context, function, side(logits), 0.7, side(gate));
                    ops::best_column(context, side(gate), side(bias), side(best));
                    ops::pick_column(context, side(gate), side(best), side(picked));
                    ops::pick_column_backward(context, side(picked), side(best), side(dgate));
                    ops::gate_backward(context, function, side(gate), 0.7, side(dgate),
                                       side(dlogits));
                });
                bench.expect_equal(best);
                bench.expect_agreement(gate, depths);
                bench.expect_agreement(picked, depths);
                bench.expect_agreement(dgate, depths);
                bench.expect_agreement(dlogits, depths);
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(gates_agree, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("losses of routers agree with the oracle", B, router_losses_agree) {
    for (const Index rows : {0, 1, 7, 130}) {
        CAPTURE(rows);
        Bench<B> bench;
        auto kept = bench.integers(every_other(rows));
        auto logits = bench.vector(rows, 3);
        auto dselection = bench.vector(rows);
        bench.run_and_compare(rows, [&](auto side) {
            return side.sum_after([&](auto sum) {
                ops::selection_loss(side.context, side(logits), side(kept), 0.3, side(dselection),
                                    0.7, sum);
            });
        });
        bench.expect_agreement(dselection, 1);
    }
    for (const Index rows : {1, 7, 130}) {
        for (const Index depths : {1, 3, 8, 17}) {
            CAPTURE(rows);
            CAPTURE(depths);
            Bench<B> bench;
            auto logits = bench.matrix(rows, depths, 2);
            auto dlogits = bench.matrix(rows, depths);
            auto dbalance = bench.matrix(rows, depths);
            std::vector<Index> chosen;
            for (Index i = 0; i < rows; ++i) {
                chosen.push_back(i * i % depths);
            }
            auto best = bench.integers(chosen);
            bench.run_and_compare(rows * depths, [&](auto side) {
                return side.sum_after([&](auto sum) {
                    ops::router_z_loss(side.context, side(logits), 0.3, side(dlogits), 0.7, sum);
                });
            });
            bench.expect_agreement(dlogits, depths);
            bench.run_and_compare(rows * depths, [&](auto side) {
                return side.sum_after([&](auto sum) {
                    ops::balancing_loss(side.context, side(logits), side(best), 0.3, side(dbalance),
                                        0.7, sum);
                });
            });
            bench.expect_agreement(dbalance, 1);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(router_losses_agree, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gelu agrees with the oracle", B, gelu_agrees) {
    for (const Index rows : {0, 1, 130}) {
        CAPTURE(rows);
        Bench<B> bench;
        auto x = bench.matrix(rows, 9, 3);
        auto y = bench.matrix(rows, 9);
        auto dy = bench.matrix(rows, 9);
        auto dx = bench.matrix(rows, 9);
        bench.run([&](auto side) {
            ops::gelu(side.context, side(x), side(y));
            ops::gelu_backward(side.context, side(x), side(dy), side(dx));
        });
        bench.expect_agreement(y, 1);
        bench.expect_agreement(dx, 1);
    }
}
TEST_CASE_TEMPLATE_APPLY(gelu_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("scale and fill by hand", B, scale_by_hand) {
    Bench<B> bench;
    auto& context = bench.context();
    auto x = bench.matrix_of(1, 3, {1, -2, 4});
    auto y = bench.matrix_of(1, 3, {8, 8, 8});
    ops::scale<B>(context, x.tested.view(), 0.5, y.tested.view());
    bench.expect_values(y, {0.5, -1, 2}, 1);
    ops::scale<B>(context, x.tested.view(), 2.0, y.tested.view(), mor::Write::accumulate);
    bench.expect_values(y, {2.5, -5, 10}, 1);
    ops::scale<B>(context, y.tested.view(), 2.0, y.tested.view());
    bench.expect_values(y, {5, -10, 20}, 1);
    auto ones = bench.vector_of({3, 4});
    ops::fill<B>(context, 1.0, ones.tested.view());
    bench.expect_values(ones, {1, 1}, 1);
}
TEST_CASE_TEMPLATE_APPLY(scale_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gates of no rows are nothing, and their losses zero", B, gate_empty) {
    Bench<B> bench;
    auto& context = bench.context();
    auto logits = bench.matrix(0, 3);
    auto none = bench.vector(0);
    auto best = bench.integers(std::vector<Index>{});
    const auto x = logits.tested.view();
    const auto rows = best.tested.view();
    for (const mor::GateFunction function : enum_values(mor::GateFunction{})) {
        ops::gate<B>(context, function, x, 1.0, x);
        ops::gate_backward<B>(context, function, x, 1.0, x, x);
    }
    ops::best_column<B>(context, x, {}, rows);
    ops::pick_column<B>(context, x, rows, none.tested.view());
    ops::pick_column_backward<B>(context, none.tested.view(), rows, x);
    const auto add = [&](auto sum) {
        const auto nothing = none.tested.view();
        ops::selection_loss<B>(context, nothing, rows, 1.0, nothing, 1.0, sum);
        ops::router_z_loss<B>(context, x, 1.0, x, 1.0, sum);
        ops::balancing_loss<B>(context, x, rows, 1.0, x, 1.0, sum);
    };
    CHECK(sum_after<B>(add, 5.0) == 5.0);
}
TEST_CASE_TEMPLATE_APPLY(gate_empty, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gates by hand", B, gates_by_hand) {
    Bench<B> bench;
    auto logits = bench.matrix_of(1, 2, {0, std::log(3.0)});
    const auto expect = [&](mor::GateFunction function, const std::vector<double>& values) {
        auto gate = bench.matrix(1, 2);
        ops::gate<B>(bench.context(), function, logits.tested.view(), 0.5, gate.tested.view());
        bench.expect_values(gate, values, 2);
    };
    expect(mor::GateFunction::sigmoid, {0.25, 0.375});
    expect(mor::GateFunction::tanh, {0, 0.4});
    expect(mor::GateFunction::identity, {0, std::log(3.0)});  // no alpha
    expect(mor::GateFunction::softmax, {0.125, 0.375});
}
TEST_CASE_TEMPLATE_APPLY(gates_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("the best column of a tie is the lower one, and a bias counts", B,
                          best_column_ties) {
    Bench<B> bench;
    auto x = bench.matrix_of(4, 4, {1, 2, 2, 0, 3, 3, 3, 3, 0, 0, 0, 5, 9, 1, 9, 1});
    auto best = bench.integers({-1, -1, -1, -1});
    ops::best_column<B>(bench.context(), x.tested.view(), {}, best.tested.view());
    CHECK(text(mor::to_host(best.tested.view())) == "1 0 3 0");
    auto bias = bench.vector_of({0, 0, 0.5, 0.25});
    ops::best_column<B>(bench.context(), x.tested.view(), bias.tested.view(), best.tested.view());
    CHECK(text(mor::to_host(best.tested.view())) == "2 2 3 2");
}
TEST_CASE_TEMPLATE_APPLY(best_column_ties, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("losses of routers by hand, large logits included", B, losses_by_hand) {
    Bench<B> bench;
    auto& context = bench.context();
    const double tolerance = mor::testing::tolerance<typename B::Element>(4);

    // Kept: 0 costs log 2, 200 nothing. Not kept: 1000 costs 1000, -300 nothing.
    auto logits = bench.vector_of({0, 200, 1000, -300});
    auto kept = bench.integers({0, 1});
    auto dlogits = bench.vector_of({1, 1, 1, 1});
    const auto add_selection = [&](auto sum) {
        ops::selection_loss<B>(context, logits.tested.view(), kept.tested.view(), 2.0,
                               dlogits.tested.view(), 0.5, sum);
    };
    const double selection = sum_after<B>(add_selection, 1.0);
    CHECK(mor::testing::mismatch(selection, 1.0 + 0.5 * (1000 + std::log(2.0)), tolerance) == "");
    bench.expect_values(dlogits, {0, 1, 3, 1}, 1);

    // Row sums of exp are 4 and, but for nothing, exp(500).
    auto depths = bench.matrix_of(2, 2, {std::log(2.0), std::log(2.0), 500, -500});
    auto ddepths = bench.matrix_of(2, 2, {0, 0, 0, 0});
    const auto add_z = [&](auto sum) {
        ops::router_z_loss<B>(context, depths.tested.view(), 0.5, ddepths.tested.view(), 2.0, sum);
    };
    const double z = sum_after<B>(add_z, 1.0);
    const double two_z = 2 * (std::log(4.0) * std::log(4.0) + 250'000);
    CHECK(mor::testing::mismatch(z, 1.0 + two_z, tolerance) == "");
    bench.expect_values(ddepths, {std::log(2.0), std::log(2.0), 500, 0}, 2);

    // P = (0.4, 0.6) and f = 2 * (0.25, 0.75).
    auto gate = bench.matrix_of(4, 2, {0.75, 0.25, 0.25, 0.75, 0.35, 0.65, 0.25, 0.75});
    auto best = bench.integers({0, 1, 1, 1});
    auto dgate = bench.matrix_of(4, 2, {0, 0, 0, 0, 0, 0, 0, 0});
    const auto add_balance = [&](auto sum) {
        ops::balancing_loss<B>(context, gate.tested.view(), best.tested.view(), 8.0,
                               dgate.tested.view(), 3.0, sum);
    };
    const double balance = sum_after<B>(add_balance, 1.0);
    CHECK(mor::testing::mismatch(balance, 1.0 + 3 * (0.4 * 0.5 + 0.6 * 1.5), tolerance) == "");
    bench.expect_values(dgate, {1, 3, 1, 3, 1, 3, 1, 3}, 4);
}
TEST_CASE_TEMPLATE_APPLY(losses_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gates name the argument that does not fit", B, gate_shapes) {
    using T = typename B::Element;
    using Space = typename B::Space;
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<T, 1, Space> seven{{7}}, six{{6}};
    Tensor<T, 2, Space> x{{7, 3}}, wrong{{7, 2}};
    Tensor<Index, 1, Space> best{{7}}, few{{6}};
    const auto v7 = seven.view();
    const auto v6 = six.view();
    Tensor<double, 1, Space> sum{{1}}, two{{2}};
    const auto throws = [&](const char* message, auto&& call) {
        CHECK_THROWS_WITH_AS(call(), message, mor::ShapeError);
    };
    throws("mor::ops::selection_loss: dlogits is [6], expected [7]",
           [&] { ops::selection_loss<B>(context, v7, few.view(), 1.0, v6, 1.0, sum.view()); });
    throws("mor::ops::selection_loss: sum is [2], expected [1]",
           [&] { ops::selection_loss<B>(context, v7, few.view(), 1.0, v7, 1.0, two.view()); });
    const auto softmax = mor::GateFunction::softmax;
    throws("mor::ops::gate: gate is [7, 2], expected [7, 3]",
           [&] { ops::gate<B>(context, softmax, x.view(), 1.0, wrong.view()); });
    throws("mor::ops::gate_backward: dgate is [7, 2], expected [7, 3]",
           [&] { ops::gate_backward<B>(context, softmax, x.view(), 1.0, wrong.view(), x.view()); });
    throws("mor::ops::gate_backward: dlogits is [7, 2], expected [7, 3]",
           [&] { ops::gate_backward<B>(context, softmax, x.view(), 1.0, x.view(), wrong.view()); });
    throws("mor::ops::best_column: bias is [7], expected [3]",
           [&] { ops::best_column<B>(context, x.view(), v7, best.view()); });
    throws("mor::ops::best_column: best is [6], expected [7]",
           [&] { ops::best_column<B>(context, x.view(), {}, few.view()); });
    throws("mor::ops::gelu: y is [7, 2], expected [7, 3]",
           [&] { ops::gelu<B>(context, x.view(), wrong.view()); });
    throws("mor::ops::gelu_backward: dy is [7, 2], expected [7, 3]",
           [&] { ops::gelu_backward<B>(context, x.view(), wrong.view(), x.view()); });
    throws("mor::ops::scale: y is [7, 2], expected [7, 3]",
           [&] { ops::scale<B>(context, x.view(), 1.0, wrong.view()); });
    throws("mor::ops::router_z_loss: dlogits is [7, 2], expected [7, 3]",
           [&] { ops::router_z_loss<B>(context, x.view(), 1.0, wrong.view(), 1.0, sum.view()); });
    throws("mor::ops::router_z_loss: sum is [2], expected [1]",
           [&] { ops::router_z_loss<B>(context, x.view(), 1.0, x.view(), 1.0, two.view()); });
    const auto balance = [&](auto& chosen, auto& dgate, auto& out) {
        ops::balancing_loss<B>(context, x.view(), chosen.view(), 1.0, dgate.view(), 1.0,
                               out.view());
    };
    throws("mor::ops::balancing_loss: best is [6], expected [7]", [&] { balance(few, x, sum); });
    throws("mor::ops::balancing_loss: dgate is [7, 2], expected [7, 3]",
           [&] { balance(best, wrong, sum); });
    throws("mor::ops::balancing_loss: sum is [2], expected [1]", [&] { balance(best, x, two); });
    throws("mor::ops::pick_column: column is [6], expected [7]",
           [&] { ops::pick_column<B>(context, x.view(), few.view(), v7); });
    throws("mor::ops::pick_column: out is [6], expected [7]",
           [&] { ops::pick_column<B>(context, x.view(), best.view(), v6); });
    throws("mor::ops::pick_column_backward: dout is [6], expected [7]",
           [&] { ops::pick_column_backward<B>(context, v6, best.view(), x.view()); });
    throws("mor::ops::pick_column_backward: column is [6], expected [7]",
           [&] { ops::pick_column_backward<B>(context, v7, few.view(), x.view()); });
}
TEST_CASE_TEMPLATE_APPLY(gate_shapes, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("scaled columns agree with the oracle", B, scaled_columns_agree) {
    for (const Index rows : {0, 1, 130}) {
        for (const mor::Write write : {mor::Write::overwrite, mor::Write::accumulate}) {
            CAPTURE(rows);
            Bench<B> bench;
            auto x = bench.matrix(rows, 9);
            auto factor = bench.vector(9);
            auto y = bench.matrix(rows, 9);
            auto dy = bench.matrix(rows, 9);
            auto dx = bench.matrix(rows, 9);
            auto dfactor = bench.vector(9);
            bench.run([&](auto side) {
                auto& context = side.context;
                ops::scale_columns(context, side(x), side(factor), side(y), write);
                ops::scale_columns_backward(context, side(x), side(factor), side(dy), side(dx),
                                            side(dfactor));
            });
            bench.expect_agreement(y, 1);
            bench.expect_agreement(dx, 1);
            bench.expect_agreement(dfactor, rows + 1);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(scaled_columns_agree, BackendsUnderTest);
