// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/gate.hpp>

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

TEST_CASE_TEMPLATE_DEFINE("gates of one logit a row agree with the oracle", B, sigmoid_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        CAPTURE(rows);
        Bench<B> bench;
        auto kept = bench.integers(every_other(rows));
        const Index m = kept.oracle.size();
        auto logits = bench.vector(rows, 3);
        auto gate = bench.vector(rows);
        auto dgate = bench.vector(m);
        auto dlogits = bench.vector(rows);
        auto dselection = bench.vector(rows);
        bench.run([&](auto side) {
            ops::sigmoid_gate(side.context, side(logits), 0.7, side(gate));
            ops::sigmoid_gate_backward(side.context, side(logits), 0.7, side(kept), side(dgate),
                                       side(dlogits));
        });
        bench.run_and_compare(rows, [&](auto side) {
            return ops::selection_loss(side.context, side(logits), side(kept), 0.3,
                                       side(dselection));
        });
        bench.expect_agreement(gate, 1);
        bench.expect_agreement(dlogits, 1);
        bench.expect_agreement(dselection, 1);
    }
}
TEST_CASE_TEMPLATE_APPLY(sigmoid_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gates of one logit a depth agree with the oracle", B, softmax_agrees) {
    for (const Index rows : {1, 7, 130}) {
        for (const Index depths : {1, 3, 8, 17}) {
            CAPTURE(rows);
            CAPTURE(depths);
            Bench<B> bench;
            auto logits = bench.matrix(rows, depths, 2);
            auto gate = bench.matrix(rows, depths);
            auto best = bench.integers(std::vector<Index>(static_cast<std::size_t>(rows), -1));
            auto picked = bench.vector(rows);
            auto dgate = bench.matrix(rows, depths);
            auto dlogits = bench.matrix(rows, depths);
            auto dbalance = bench.matrix(rows, depths);
            bench.run([&](auto side) {
                auto& context = side.context;
                ops::softmax_gate(context, side(logits), 0.7, side(gate), side(best));
                ops::pick_column(context, side(gate), side(best), side(picked));
                ops::pick_column_backward(context, side(picked), side(best), side(dgate));
                ops::softmax_gate_backward(context, side(gate), 0.7, side(dgate), side(dlogits));
            });
            bench.expect_equal(best);
            bench.expect_agreement(gate, depths);
            bench.expect_agreement(picked, depths);
            bench.expect_agreement(dgate, depths);
            bench.expect_agreement(dlogits, depths);
            bench.run_and_compare(rows * depths, [&](auto side) {
                return ops::router_z_loss(side.context, side(logits), 0.3, side(dlogits));
            });
            bench.expect_agreement(dlogits, depths);
            bench.run_and_compare(rows * depths, [&](auto side) {
                return ops::balancing_loss(side.context, side(gate), side(best), 0.3,
                                           side(dbalance));
            });
            bench.expect_agreement(dbalance, 1);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(softmax_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gates of no rows are nothing, and their losses zero", B, gate_empty) {
    Bench<B> bench;
    auto& context = bench.context();
    auto logits = bench.matrix(0, 3);
    auto none = bench.vector(0);
    auto best = bench.integers(std::vector<Index>{});
    const auto x = logits.tested.view();
    const auto rows = best.tested.view();
    ops::softmax_gate<B>(context, x, 1.0, x, rows);
    ops::softmax_gate_backward<B>(context, x, 1.0, x, x);
    ops::pick_column<B>(context, x, rows, none.tested.view());
    ops::pick_column_backward<B>(context, none.tested.view(), rows, x);
    CHECK(ops::selection_loss<B>(context, none.tested.view(), rows, 1.0, none.tested.view()) == 0);
    CHECK(ops::router_z_loss<B>(context, x, 1.0, x) == 0);
    CHECK(ops::balancing_loss<B>(context, x, rows, 1.0, x) == 0);
}
TEST_CASE_TEMPLATE_APPLY(gate_empty, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("the best depth of a tie is the lower one", B, softmax_gate_ties) {
    Bench<B> bench;
    auto logits = bench.matrix_of(4, 4, {1, 2, 2, 0, 3, 3, 3, 3, 0, 0, 0, 5, 9, 1, 9, 1});
    auto gate = bench.matrix(4, 4);
    auto best = bench.integers({-1, -1, -1, -1});
    ops::softmax_gate<B>(bench.context(), logits.tested.view(), 1.0, gate.tested.view(),
                         best.tested.view());
    CHECK(text(mor::to_host(best.tested.view())) == "1 0 3 0");
}
TEST_CASE_TEMPLATE_APPLY(softmax_gate_ties, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("losses of routers by hand, large logits included", B, losses_by_hand) {
    Bench<B> bench;
    auto& context = bench.context();
    const double tolerance = mor::testing::tolerance<typename B::Element>(4);

    // Kept: 0 costs log 2, 200 nothing. Not kept: 1000 costs 1000, -300 nothing.
    auto logits = bench.vector_of({0, 200, 1000, -300});
    auto kept = bench.integers({0, 1});
    auto dlogits = bench.vector_of({1, 1, 1, 1});
    const double selection = ops::selection_loss<B>(context, logits.tested.view(),
                                                    kept.tested.view(), 2.0, dlogits.tested.view());
    CHECK(mor::testing::mismatch(selection, 1000 + std::log(2.0), tolerance) == "");
    bench.expect_values(dlogits, {0, 1, 3, 1}, 1);

    // Row sums of exp are 4 and, but for nothing, exp(500).
    auto depths = bench.matrix_of(2, 2, {std::log(2.0), std::log(2.0), 500, -500});
    auto ddepths = bench.matrix_of(2, 2, {0, 0, 0, 0});
    const double z =
        ops::router_z_loss<B>(context, depths.tested.view(), 0.5, ddepths.tested.view());
    CHECK(mor::testing::mismatch(z, std::log(4.0) * std::log(4.0) + 250'000, tolerance) == "");
    bench.expect_values(ddepths, {std::log(2.0), std::log(2.0), 500, 0}, 2);

    // P = (0.4, 0.6) and f = 2 * (0.25, 0.75).
    auto gate = bench.matrix_of(4, 2, {0.75, 0.25, 0.25, 0.75, 0.35, 0.65, 0.25, 0.75});
    auto best = bench.integers({0, 1, 1, 1});
    auto dgate = bench.matrix_of(4, 2, {0, 0, 0, 0, 0, 0, 0, 0});
    const double balance = ops::balancing_loss<B>(context, gate.tested.view(), best.tested.view(),
                                                  8.0, dgate.tested.view());
    CHECK(mor::testing::mismatch(balance, 0.4 * 0.5 + 0.6 * 1.5, tolerance) == "");
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
    const auto throws = [&](const char* message, auto&& call) {
        CHECK_THROWS_WITH_AS(call(), message, mor::ShapeError);
    };
    throws("mor::ops::sigmoid_gate: gate is [6], expected [7]",
           [&] { ops::sigmoid_gate<B>(context, v7, 1.0, v6); });
    throws("mor::ops::sigmoid_gate_backward: dgate is [7], expected [6]",
           [&] { ops::sigmoid_gate_backward<B>(context, v7, 1.0, few.view(), v7, v7); });
    throws("mor::ops::sigmoid_gate_backward: dlogits is [6], expected [7]",
           [&] { ops::sigmoid_gate_backward<B>(context, v7, 1.0, few.view(), v6, v6); });
    throws("mor::ops::selection_loss: dlogits is [6], expected [7]",
           [&] { (void)ops::selection_loss<B>(context, v7, few.view(), 1.0, v6); });
    throws("mor::ops::softmax_gate: gate is [7, 2], expected [7, 3]",
           [&] { ops::softmax_gate<B>(context, x.view(), 1.0, wrong.view(), best.view()); });
    throws("mor::ops::softmax_gate: best is [6], expected [7]",
           [&] { ops::softmax_gate<B>(context, x.view(), 1.0, x.view(), few.view()); });
    throws("mor::ops::softmax_gate_backward: dgate is [7, 2], expected [7, 3]",
           [&] { ops::softmax_gate_backward<B>(context, x.view(), 1.0, wrong.view(), x.view()); });
    throws("mor::ops::softmax_gate_backward: dlogits is [7, 2], expected [7, 3]",
           [&] { ops::softmax_gate_backward<B>(context, x.view(), 1.0, x.view(), wrong.view()); });
    throws("mor::ops::router_z_loss: dlogits is [7, 2], expected [7, 3]",
           [&] { (void)ops::router_z_loss<B>(context, x.view(), 1.0, wrong.view()); });
    throws("mor::ops::balancing_loss: best is [6], expected [7]",
           [&] { (void)ops::balancing_loss<B>(context, x.view(), few.view(), 1.0, x.view()); });
    throws("mor::ops::balancing_loss: dgate is [7, 2], expected [7, 3]", [&] {
        (void)ops::balancing_loss<B>(context, x.view(), best.view(), 1.0, wrong.view());
    });
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
