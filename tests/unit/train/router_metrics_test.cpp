// SPDX-License-Identifier: Apache-2.0
//
// Router metrics against numbers worked out by hand.
#include <mor/backends/reference/reference.hpp>
#include <mor/train/router_metrics.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using B = mor::Reference<double>;
using Values = std::vector<double>;
using Rows = std::vector<Index>;

/// A trace made by hand: two sequences of four tokens and two steps.
template <class A>
struct Made {
    B backend;
    mor::Context<B> context{backend};
    typename A::Router router{{}};
    mor::Trace<A, B> trace;

    Made() {
        trace.rows = {indices({0, 4, 8}), indices({0, 1, 2, 3, 0, 1, 2, 3})};
        add_step({0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 4, 8});
        add_step({0, 1, 5, 7}, {0, 1, 5, 7}, {0, 4, 8});
    }
    mor::IndexView<B> indices(const Rows& values) {
        const auto view = context.indices(std::ssize(values));
        mor::from_host(view, values);
        return view;
    }
    mor::MatrixView<B> column(const Values& values) {
        const auto view = context.matrix(std::ssize(values), 1);
        mor::from_host(view, values);
        return view;
    }
    void add_step(const Rows& kept, const Rows& active, const Rows& offsets) {
        auto& step = trace.steps.emplace_back();
        step.kept = indices(kept);
        step.active = indices(active);
        step.view.rows.offsets = indices(offsets);
    }
    mor::RouterMetrics measure() { return *mor::measure_routing(router, trace); }
};

}  // namespace

TEST_CASE("depths, dead positions and loads") {
    Made<mor::MoRToken<>> made;
    // The sigmoid of 1 is 0.731, of -1 0.269.
    const auto scores = made.context.matrix(8, 2);
    mor::from_host(scores, Values{-1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, 1, -1, -1, 1});
    made.trace.router.scores = scores;
    made.trace.router.best = made.indices({1, 1, 0, 0, 0, 1, 0, 1});
    const mor::RouterMetrics metrics = made.measure();
    REQUIRE(metrics.scores.size() == 2);
    CHECK(metrics.scores[0].selected[14] == 4);
    CHECK(metrics.scores[0].unselected[5] == 4);
    CHECK(metrics.scores[1].selected[14] == 4);
    CHECK(metrics.scores[1].unselected[5] == 4);
    CHECK(metrics.depth_histogram == Rows{0, 4, 4});
    CHECK(metrics.max_violation == 0);
    CHECK(metrics.load_entropy == doctest::Approx(1));
    CHECK(metrics.dead_token_ratio == 0.25);  // nobody took position 2 to the last step
    CHECK(!metrics.sampling_accuracy);

    made.trace.steps.back().active = made.indices({0, 5});
    const mor::RouterMetrics uneven = made.measure();
    CHECK(uneven.depth_histogram == Rows{0, 6, 2});
    CHECK(uneven.max_violation == doctest::Approx(0.5));      // 6 over a mean of 4
    CHECK(uneven.load_entropy == doctest::Approx(0.811278));  // of 3/4 and 1/4, in bits
    CHECK(uneven.dead_token_ratio == 0.5);
}

TEST_CASE("the causal rule against top-k, and histograms of scores") {
    Made<mor::MoRExpert<>> made;
    auto& steps = made.trace.router.steps;
    steps.resize(2);
    steps[0].scores = made.column({1, 1, 1, 1, 1, 1, 1, -1});  // one of eight is not foreseen
    steps[1].scores = made.column({2, 1, -1, -2, -1, 3, 1, -3});
    const mor::RouterMetrics metrics = made.measure();
    // Kept in step 1: 0, 1, 5, 7. Above 0: 0, 1, 5, 6. Wrong: 6 and 7.
    CHECK(*metrics.sampling_accuracy == doctest::Approx((7.0 / 8 + 6.0 / 8) / 2));
    CHECK(!metrics.top_k_agreement);
    REQUIRE(metrics.scores.size() == 2);
    // The sigmoid of 1 is 0.731, of -1 0.269.
    CHECK(metrics.scores[0].selected[14] == 7);
    CHECK(metrics.scores[0].selected[5] == 1);
    CHECK(metrics.scores[1].unselected[5] == 2);
    CHECK(metrics.scores[1].unselected[14] == 1);
}

TEST_CASE("an auxiliary router is compared with the best of each sequence") {
    Made<ExpertAuxiliary> made;
    auto& steps = made.trace.router.steps;
    steps.resize(2);
    for (auto& step : steps) {
        step.scores = made.column(Values(8, 0.0));
    }
    steps[0].causality.predictions = made.column({1, 1, 1, 1, 1, 1, 1, 1});
    // Two of each sequence were kept: 0, 1 and 5, 7. The best predictions: 0, 2 and 5, 7.
    steps[1].causality.predictions = made.column({9, -2, 8, -3, -1, 7, -4, 6});
    const mor::RouterMetrics metrics = made.measure();
    CHECK(*metrics.top_k_agreement == doctest::Approx((1 + 3.0 / 4) / 2));
    CHECK(*metrics.sampling_accuracy == doctest::Approx((1 + 6.0 / 8) / 2));
}

TEST_CASE("without steps there is nothing to measure") {
    Made<mor::MoRToken<>> made;
    made.trace.steps.clear();
    CHECK(!mor::measure_routing(made.router, made.trace));
}
