// SPDX-License-Identifier: Apache-2.0
//
// Depth at inference as the caller wants it, and watching a pass from outside.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>
#include <mor/cache/hybrid.hpp>
#include <mor/model/backward.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Cpu = mor::Cpu<float>;
using Depths = std::vector<Index>;

template <class A>
struct Fixture {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    Sequences sequences = random_sequences({13, 7, 20}, 29, 5);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;

    Depths depths(const mor::DepthControl& depth, mor::Decision decision = mor::Decision::causal) {
        model.forward(context, sequences.batch(), {.decision = decision, .depth = depth}, trace);
        return mor::token_depths(trace);
    }
};

template <class T>
std::vector<T> clipped(std::vector<T> values, T limit) {
    for (T& value : values) {
        value = std::min(value, limit);
    }
    return values;
}

}  // namespace

TEST_CASE_TEMPLATE("max_depth ends the recursion of every token", A, mor::MoRExpert<mor::Cycle>,
                   mor::MoRToken<mor::MiddleCycle>, RandomRouted) {
    Fixture<A> fixture;
    const Depths free = fixture.depths({});
    CHECK(*std::max_element(free.begin(), free.end()) == 3);
    CHECK(fixture.depths({.max_depth = 3}) == free);
    CHECK(fixture.depths({.max_depth = 1}) == Depths(40, 1));
    // Expert choice decides a step by the states of the one before: two steps are what they were.
    CHECK(fixture.depths({.max_depth = 2}) == clipped(free, Index{2}));
}

TEST_CASE_TEMPLATE("each sequence has a depth of its own", A, mor::MoRExpert<mor::Cycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    Fixture<A> fixture;
    const Depths free = fixture.depths({});
    const auto all_logits = mor::to_host(fixture.trace.logits);
    const Depths limits{1, 3, 2};
    const Depths found = fixture.depths({.max_depths = limits});
    for (std::size_t i = 0; i < free.size(); ++i) {
        const Index limit = i < 13 ? 1 : i < 20 ? 3 : 2;
        CHECK(found[i] == std::min(free[i], limit));
    }
    // The unlimited sequence is not disturbed by the others.
    const auto logits = mor::to_host(fixture.trace.logits);
    CHECK(max_difference(rows_of(logits, 29, 13, 7), rows_of(all_logits, 29, 13, 7)) < 1e-5);
}

TEST_CASE_TEMPLATE("one limit for each sequence does what one limit for all does", A,
                   mor::MoRExpert<mor::Cycle>, mor::MoRToken<mor::MiddleCycle>, RandomRouted,
                   CyclePonder, MiddleExitGate, mor::Recursive<mor::MiddleCycle>) {
    Fixture<A> fixture;
    for (const Index limit : {1, 2, 3}) {
        const Depths depths = fixture.depths({.max_depth = limit});
        const auto logits = mor::to_host(fixture.trace.logits);
        const Depths limits(3, limit);
        CHECK(fixture.depths({.max_depths = limits}) == depths);
        CHECK(max_difference(mor::to_host(fixture.trace.logits), logits) < 1e-6);
    }
}

TEST_CASE_TEMPLATE("gradients follow a pass that was cut short", A, mor::Recursive<mor::Cycle>,
                   CyclePonder) {
    mor::Reference<double> backend;
    mor::Model<A, mor::Reference<double>> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::Context<mor::Reference<double>> context{backend};
    mor::Trace<A, mor::Reference<double>> trace;
    const Sequences sequences = random_sequences({13, 7}, 29, 5);
    const Depths limits{1, 3};
    const mor::ForwardOptions options{.depth = {.max_depths = limits}};
    auto dlogits = std::vector<double>(20 * 29);
    mor::Random random{7};
    for (double& d : dlogits) {
        d = random.normal();
    }
    const auto loss = [&] {
        model.forward(context, sequences.batch(), options, trace);
        const auto logits = mor::to_host(trace.logits);
        return std::inner_product(logits.begin(), logits.end(), dlogits.begin(), 0.0);
    };
    loss();
    const mor::MatrixView<mor::Reference<double>> upstream = context.matrix(20, 29);
    mor::from_host(upstream, dlogits);
    model.zero_gradients();
    // The router's own losses are not part of this one.
    mor::backward(model, context, trace, upstream, {.loss_scale = 0});
    std::size_t checked = 0;
    model.visit_parameters([&](mor::Parameter<mor::Reference<double>>& parameter) {
        auto values = mor::to_host(std::as_const(parameter).value());
        const auto gradient = mor::to_host(std::as_const(parameter).gradient());
        const std::size_t at = values.size() / 2;
        constexpr double distance = 1e-5;
        const double original = values[at];
        const auto loss_at = [&](double value) {
            values[at] = value;
            mor::from_host(parameter.value(), values);
            return loss();
        };
        const double numeric =
            (loss_at(original + distance) - loss_at(original - distance)) / (2 * distance);
        loss_at(original);
        CAPTURE(parameter.name());
        CHECK(std::abs(numeric - gradient[at]) < 1e-6 * std::max(1.0, std::abs(numeric)));
        ++checked;
    });
    CHECK(checked > 10);
}

TEST_CASE_TEMPLATE("forced_depth sends every token to the same depth", A,
                   mor::MoRExpert<mor::Cycle>, mor::MoRToken<mor::MiddleCycle>, RandomRouted,
                   CyclePonder, MiddleExitGate) {
    Fixture<A> fixture;
    for (const Index depth : {1, 2, 3}) {
        CHECK(fixture.depths({.forced_depth = depth}) == Depths(40, depth));
    }
    CHECK(fixture.depths({.forced_depth = 9}) == Depths(40, 3));
}

TEST_CASE_TEMPLATE("so it is where a gate is so sure that nothing is left to give", A, CyclePonder,
                   MiddleExitGate) {
    Fixture<A> fixture;
    fixture.model.visit_parameters([](mor::Parameter<Cpu>& parameter) {
        if (parameter.name().starts_with("model.router.")) {
            auto values = mor::to_host(std::as_const(parameter).value());
            for (float& value : values) {
                value *= 1'000;  // probabilities of 0 and 1
            }
            mor::from_host(parameter.value(), values);
        }
    });
    for (const Index depth : {1, 2, 3}) {
        CHECK(fixture.depths({.forced_depth = depth}) == Depths(40, depth));
        const auto logits = mor::to_host(fixture.trace.logits);
        CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    }
    fixture.model.zero_gradients();
    mor::backward(fixture.model, fixture.context, fixture.trace, fixture.trace.logits);
    fixture.model.visit_parameters([](mor::Parameter<Cpu>& parameter) {
        const auto gradient = mor::to_host(std::as_const(parameter).gradient());
        CHECK(std::all_of(gradient.begin(), gradient.end(),
                          [](float g) { return std::isfinite(g); }));
    });
}

TEST_CASE("a plain recursive model can be cut short, too") {
    Fixture<mor::Recursive<mor::MiddleCycle>> fixture;
    fixture.depths({});
    const auto whole = mor::to_host(fixture.trace.logits);
    CHECK(fixture.depths({.max_depth = 2}) == Depths(40, 2));
    CHECK(max_difference(mor::to_host(fixture.trace.logits), whole) > 1e-3);
    CHECK(fixture.depths({.forced_depth = 3}) == Depths(40, 3));
    CHECK(max_difference(mor::to_host(fixture.trace.logits), whole) < 1e-5);
}

TEST_CASE("a threshold offset changes how many tokens go on, monotonously") {
    Fixture<mor::MoRExpert<mor::Cycle>> fixture;
    const auto sum = [&fixture](double offset) {
        const Depths depths = fixture.depths({.threshold_offset = offset});
        return std::accumulate(depths.begin(), depths.end(), Index{0});
    };
    CHECK(sum(-100) == 3 * 40);
    CHECK(sum(-0.5) > sum(0));
    CHECK(sum(0) > sum(0.5));
    CHECK(sum(100) == 40);
}

TEST_CASE_TEMPLATE("decoding under depth control equals the full pass under it", A,
                   mor::MoRExpert<mor::Cycle>, mor::MoRToken<mor::MiddleCycle>, CyclePonder) {
    Fixture<A> fixture;
    const mor::DepthControl depth{.max_depth = 2, .threshold_offset = 0.3};
    const Depths expected_depths = fixture.depths(depth);
    const auto expected = mor::to_host(fixture.trace.logits);
    auto cache = fixture.model.make_cache(1);
    for (Index i = 0; i < 13; ++i) {
        const std::vector<mor::TokenId> token{
            fixture.sequences.tokens[static_cast<std::size_t>(i)]};
        const std::vector<Index> one{1};
        fixture.model.extend(fixture.context, {token, one}, cache, fixture.trace, {.depth = depth});
        CHECK(mor::token_depths(fixture.trace).front() ==
              expected_depths[static_cast<std::size_t>(i)]);
        CHECK(max_difference(mor::to_host(fixture.trace.logits), rows_of(expected, 29, i, 1)) <
              1e-4);
    }
}

TEST_CASE("impossible depths are refused") {
    Fixture<mor::MoRExpert<mor::Cycle>> fixture;
    const Depths two{1, 2};
    const Depths zero{1, 0, 1};
    const auto refuses = [&](const mor::DepthControl& depth, const std::string& word) {
        return throws_with<mor::ConfigError>([&] { fixture.depths(depth); }, {word});
    };
    CHECK(refuses({.max_depth = 0}, "max_depth is 0"));
    CHECK(refuses({.max_depths = two}, "2 max_depths for 3 sequences"));
    CHECK(refuses({.max_depths = zero}, "one of max_depths is 0"));
    CHECK(refuses({.forced_depth = -1}, "forced_depth is -1"));
    CHECK(
        refuses({.threshold_offset = std::numeric_limits<double>::infinity()}, "threshold_offset"));
}

namespace {

/// Counts what it is shown.
struct Counter {
    Index layers = 0;
    Index rows = 0;
    Index pairs = 0;
    Index key_bytes = 0;
    Depths active = {};

    void operator()(const mor::LayerSeen<Cpu>& seen) {
        ++layers;
        rows += seen.rows.size();
        pairs += seen.visible_keys;
        key_bytes += seen.key_bytes;
        CHECK(seen.hidden.rows() == seen.rows.size());
    }
    void operator()(const mor::StepSeen<Cpu>& seen) { active.push_back(seen.active.size()); }
};

}  // namespace

TEST_CASE("an observer sees every layer and step") {
    Fixture<mor::MoRExpert<mor::MiddleCycle>> fixture;
    Counter counter;
    fixture.model.forward(fixture.context, fixture.sequences.batch(), {}, fixture.trace, counter);
    CHECK(counter.active == Depths{40, 8 + 4 + 13, 4 + 2 + 6});
    CHECK(counter.layers == 8);
    CHECK(counter.rows == 2 * 40 + 2 * (40 + 25 + 12));
    CHECK(counter.key_bytes == counter.rows * 2 * 2 * 4 * Index{sizeof(float)});
    const auto triangle = [](Index n) { return n * (n + 1) / 2; };
    CHECK(counter.pairs == 4 * (triangle(13) + triangle(7) + triangle(20)) +
                               2 * (triangle(8) + triangle(4) + triangle(13)) +
                               2 * (triangle(4) + triangle(2) + triangle(6)));

    // While decoding it sees the same rows, and all keys so far.
    auto cache = fixture.model.make_cache(3);
    Counter decoding;
    fixture.model.extend(fixture.context, fixture.sequences.batch(), cache, fixture.trace, {},
                         decoding);
    CHECK(decoding.key_bytes == cache.bytes_in_use());
}

TEST_CASE("an observer is told of layers that no row reached, and of each part of a step") {
    Fixture<mor::MoRExpert<mor::MiddleCycle>> fixture;
    Depths rows;
    fixture.model.forward(
        fixture.context, fixture.sequences.batch(), {.depth = {.max_depth = 1}}, fixture.trace,
        [&](const mor::LayerSeen<Cpu>& seen) { rows.push_back(seen.rows.size()); });
    CHECK(rows == Depths{40, 40, 40, 0, 0, 0, 0, 40});

    using mor::StepPhase;
    std::vector<StepPhase> phases;
    Depths steps;
    fixture.model.forward(fixture.context, fixture.sequences.batch(), {}, fixture.trace,
                          [&](const mor::PhaseSeen<Cpu>& seen) {
                              phases.push_back(seen.phase);
                              steps.push_back(seen.step);
                          });
    const std::vector<StepPhase> one_step{StepPhase::gather, StepPhase::select, StepPhase::compact,
                                          StepPhase::gather, StepPhase::block,  StepPhase::merge};
    REQUIRE(phases.size() == 18);
    for (std::size_t i = 0; i < phases.size(); ++i) {
        CHECK(phases[i] == one_step[i % 6]);
        CHECK(steps[i] == static_cast<Index>(i / 6));
    }
}

TEST_CASE_TEMPLATE("the bytes that an observer sees are those in the cache", A,
                   mor::MoRExpert<mor::Cycle, mor::RecursiveSharingCache>,
                   mor::MoRExpert<mor::Cycle, mor::HybridCache>,
                   mor::MoRToken<mor::MiddleCycle, mor::HybridCache>) {
    Fixture<A> fixture;
    auto cache = fixture.model.make_cache(1);
    Counter counter;
    for (const mor::TokenId token : {3, 1, 4, 1, 5, 9, 2, 6, 5, 3}) {
        const std::vector<mor::TokenId> tokens{token};
        const std::vector<Index> one{1};
        fixture.model.extend(fixture.context, {tokens, one}, cache, fixture.trace, {}, counter);
        CHECK(counter.key_bytes == cache.bytes_in_use());
    }
}

namespace {

struct ScoreObserver {
    std::vector<Depths> extents = {};

    void operator()(const mor::StepSeen<Cpu>& seen) {
        extents.push_back({seen.scores.rows(), seen.scores.columns()});
    }
};

}  // namespace

TEST_CASE("an observer sees the router's scores") {
    const auto extents_of = []<class A>(A) {
        Fixture<A> fixture;
        ScoreObserver observer;
        fixture.model.forward(fixture.context, fixture.sequences.batch(), {}, fixture.trace,
                              observer);
        return observer.extents;
    };
    CHECK(extents_of(mor::MoRExpert<mor::MiddleCycle>{}) ==
          std::vector<Depths>{{40, 1}, {40, 1}, {25, 1}});
    CHECK(extents_of(mor::MoRToken<mor::MiddleCycle>{}).front() == Depths{40, 3});
    CHECK(extents_of(CyclePonder{}).front() == Depths{40, 1});
    CHECK(extents_of(RandomRouted{}).front() == Depths{0, 0});
}
