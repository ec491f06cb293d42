// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

namespace {

using namespace mor::test;
using mor::CapacitySchedule;
using mor::ConfigError;
using mor::Decision;
using mor::ExpertChoice;
using mor::Index;
using mor::TokenChoice;

using Cpu = mor::Cpu<float>;
using Rows = std::vector<Index>;
using Expert = mor::MoRExpert<mor::Cycle>;
using Token = mor::MoRToken<mor::Cycle>;

/// A model of one layer a step, and what its router decided.
template <class A, mor::Backend B>
struct Routed {
    explicit Routed(Index num_recursions, mor::ArchitectureOptions<A> options = small_options<A>(),
                    Index max_positions = 64)
        : model{backend, config(num_recursions, max_positions),
                with_recursions(options, num_recursions), 7} {}

    static mor::ModelConfig config(Index num_recursions, Index max_positions) {
        mor::ModelConfig config = small_config<A>();
        config.num_layers = num_recursions;
        config.max_positions = max_positions;
        return config;
    }
    static mor::ArchitectureOptions<A> with_recursions(mor::ArchitectureOptions<A> options,
                                                       Index num_recursions) {
        options.sharing.num_recursions = num_recursions;
        return options;
    }

    void run(const Sequences& sequences, Decision decision, Index training_step = 0) {
        model.forward(context, sequences.batch(),
                      {.decision = decision, .training_step = training_step}, trace);
    }
    /// How many rows of a sequence took a step.
    [[nodiscard]] Index kept(Index step, const Sequences& sequences, std::size_t s) const {
        const Rows active = this->active(step);
        const Index first = sequences.offset(s);
        return std::count_if(active.begin(), active.end(), [&](Index row) {
            return row >= first && row < first + sequences.lengths[s];
        });
    }
    /// The rows of the batch that took a step.
    [[nodiscard]] Rows active(Index step) const {
        return mor::to_host(trace.steps[static_cast<std::size_t>(step)].active);
    }
    [[nodiscard]] Rows candidates(Index step) const {
        return mor::to_host(trace.steps[static_cast<std::size_t>(step)].view.source);
    }

    B backend;
    mor::Model<A, B> model;
    mor::Context<B> context{backend};
    mor::Trace<A, B> trace;
};

}  // namespace

TEST_CASE_TEMPLATE("expert choice keeps max(1, floor(capacity * original length)) tokens", B, Cpu,
                   mor::Reference<float>) {
    const std::map<Index, std::map<Index, Rows>> expected{
        {3, {{24, {24, 16, 8}}, {17, {17, 11, 5}}, {2, {2, 1, 1}}, {1, {1, 1, 1}}}},
        {4, {{17, {17, 12, 8, 4}}, {3, {3, 2, 1, 1}}}}};
    for (const auto& [recursions, lengths] : expected) {
        // One ragged batch: the length that counts is each sequence's own.
        Sequences sequences{{}, {}};
        for (const auto& entry : lengths) {
            sequences.lengths.push_back(entry.first);
        }
        sequences = random_sequences(sequences.lengths, 29);
        Routed<Expert, B> routed{recursions};
        routed.run(sequences, Decision::look_ahead);
        for (std::size_t s = 0; s < sequences.lengths.size(); ++s) {
            for (Index step = 0; step < recursions; ++step) {
                CAPTURE(sequences.lengths[s]);
                CAPTURE(step);
                CHECK(routed.kept(step, sequences, s) ==
                      lengths.at(sequences.lengths[s])[static_cast<std::size_t>(step)]);
            }
        }
    }
}

TEST_CASE("expert choice of 2048 tokens in three steps keeps 2048, 1365 and 682") {
    const Sequences sequences = random_sequences({2'048}, 29);
    Routed<Expert, Cpu> routed{3, small_options<Expert>(), 2'048};
    routed.run(sequences, Decision::look_ahead);
    CHECK(routed.active(0).size() == 2'048);
    CHECK(routed.active(1).size() == 1'365);
    CHECK(routed.active(2).size() == 682);
}

TEST_CASE_TEMPLATE("only tokens kept by one step are candidates of the next", A, Expert, Token) {
    const Sequences sequences = random_sequences({20, 1, 31}, 29);
    for (const Decision decision : {Decision::look_ahead, Decision::causal}) {
        Routed<A, Cpu> routed{4};
        routed.run(sequences, decision);
        for (Index step = 0; step < 4; ++step) {
            const Rows active = routed.active(step);
            CHECK(std::is_sorted(active.begin(), active.end()));
            CHECK(std::adjacent_find(active.begin(), active.end()) == active.end());
            if (step > 0) {
                CHECK(routed.candidates(step) == routed.active(step - 1));
            }
            const Rows candidates = routed.candidates(step);
            CHECK(
                std::includes(candidates.begin(), candidates.end(), active.begin(), active.end()));
        }
        CHECK(routed.active(3).size() < routed.active(0).size());
    }
}

TEST_CASE_TEMPLATE("expert choice keeps the candidates with the largest scores", B, Cpu,
                   mor::Reference<float>) {
    const Sequences sequences = random_sequences({20, 13}, 29);
    Routed<Expert, B> routed{3};
    routed.run(sequences, Decision::look_ahead);
    for (Index step = 0; step < 3; ++step) {
        const Rows candidates = routed.candidates(step);
        const auto scores =
            mor::to_host(routed.trace.router.steps[static_cast<std::size_t>(step)].scores);
        Rows expected;
        for (std::size_t s = 0; s < 2; ++s) {
            Rows order;
            for (std::size_t i = 0; i < candidates.size(); ++i) {
                if ((candidates[i] >= 20) == (s == 1)) {
                    order.push_back(static_cast<Index>(i));
                }
            }
            std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
                return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
            });
            order.resize(static_cast<std::size_t>(routed.kept(step, sequences, s)));
            for (const Index i : order) {
                expected.push_back(candidates[static_cast<std::size_t>(i)]);
            }
        }
        std::sort(expected.begin(), expected.end());
        CHECK(routed.active(step) == expected);
    }
}

TEST_CASE_TEMPLATE("equal scores of expert choice go to the lower index", B, Cpu,
                   mor::Reference<float>) {
    Routed<Expert, B> routed{3};
    for (const char* const name : {"model.routers.1.weight", "model.routers.2.weight"}) {
        find_parameter(routed.model, name)->fill(0.0);
    }
    const Sequences sequences = random_sequences({6, 9}, 29);
    routed.run(sequences, Decision::look_ahead);
    CHECK(routed.active(1) == Rows{0, 1, 2, 3, 6, 7, 8, 9, 10, 11});
    CHECK(routed.active(2) == Rows{0, 1, 6, 7, 8});
}

TEST_CASE("a causal expert keeps the scores above the threshold, whatever the capacity") {
    const Sequences sequences = random_sequences({20, 13}, 29);
    for (const double threshold : {0.3, 0.5, 0.8}) {
        auto options = small_options<Expert>();
        options.router.causality.threshold = threshold;
        Routed<Expert, Cpu> routed{3, options};
        routed.run(sequences, Decision::causal);
        CHECK(routed.active(0).size() == 33);  // capacity 1 keeps all
        for (Index step = 1; step < 3; ++step) {
            const Rows candidates = routed.candidates(step);
            const auto scores =
                mor::to_host(routed.trace.router.steps[static_cast<std::size_t>(step)].scores);
            Rows expected;
            for (std::size_t i = 0; i < candidates.size(); ++i) {
                const double score = static_cast<double>(scores[i]);
                if (1.0 / (1.0 + std::exp(-score)) > threshold) {
                    expected.push_back(candidates[i]);
                }
            }
            CHECK(routed.active(step) == expected);
        }
        CHECK(routed.active(1).size() < 33);
    }
}

TEST_CASE("a causal expert may leave a step, and all after it, without any token") {
    Routed<Expert, Cpu> routed{3};
    find_parameter(routed.model, "model.routers.1.weight")->fill(0.0);  // sigmoid 0.5, not above
    const Sequences sequences = random_sequences({5, 2}, 29);
    routed.run(sequences, Decision::causal);
    CHECK(routed.active(1).empty());
    CHECK(routed.active(2).empty());
    CHECK(mor::token_depths(routed.trace) == Rows(7, 1));
    const auto logits = mor::to_host(routed.trace.logits);
    CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
}

TEST_CASE("the gate of expert choice is alpha * sigmoid(score) of the kept tokens") {
    const Sequences sequences = random_sequences({11, 4}, 29);
    Routed<Expert, Cpu> routed{3};
    routed.run(sequences, Decision::look_ahead);
    for (std::size_t step = 0; step < 3; ++step) {
        const auto scores = mor::to_host(routed.trace.router.steps[step].scores);
        const auto kept = mor::to_host(routed.trace.steps[step].kept);
        const auto weight = mor::to_host(routed.trace.steps[step].weight);
        REQUIRE(weight.size() == kept.size());
        for (std::size_t i = 0; i < kept.size(); ++i) {
            const double score = static_cast<double>(scores[static_cast<std::size_t>(kept[i])]);
            CHECK(static_cast<double>(weight[i]) ==
                  doctest::Approx(0.7 / (1.0 + std::exp(-score))).epsilon(1e-5));
        }
    }
}

TEST_CASE("capacities shrink from 1 to 1/Nr, after a cosine warm-up from 1") {
    const CapacitySchedule plain{{}};
    CHECK(plain.capacity(0, 3, 0) == 1.0);
    CHECK(plain.capacity(1, 3, 0) == 2.0 / 3.0);
    CHECK(plain.capacity(2, 3, 0) == 1.0 / 3.0);
    CHECK(plain.capacity(2, 3, 1) == 1.0 / 3.0);  // no warm-up unless asked for

    const CapacitySchedule warm{{.warmup_steps = 8}};
    CHECK(warm.capacity(1, 2, 0) == 0.5);  // not training
    // c + (1 - c) (1 + cos(pi t / 8)) / 2 with c = 1/2
    CHECK(warm.capacity(1, 2, 1) == doctest::Approx(0.98096988312782));
    CHECK(warm.capacity(1, 2, 2) == doctest::Approx(0.92677669529664));
    CHECK(warm.capacity(1, 2, 4) == doctest::Approx(0.75));
    CHECK(warm.capacity(1, 2, 6) == doctest::Approx(0.57322330470336));
    CHECK(warm.capacity(1, 2, 8) == doctest::Approx(0.5));
    CHECK(warm.capacity(1, 2, 1'000) == doctest::Approx(0.5));
    CHECK(warm.capacity(0, 2, 1) == 1.0);

    const CapacitySchedule given{{.capacities = {0.9, 0.9, 0.25}, .warmup_steps = 4}};
    CHECK(given.capacity(0, 3, 0) == 0.9);
    CHECK(given.capacity(2, 3, 0) == 0.25);
    CHECK(given.capacity(2, 3, 2) == doctest::Approx(0.625));
}

TEST_CASE("expert choice follows the schedule through the warm-up") {
    auto options = small_options<Expert>();
    options.schedule.warmup_steps = 8;
    Routed<Expert, Cpu> routed{2, options};
    const Sequences sequences = random_sequences({20, 9}, 29);
    const std::map<Index, Rows> expected{{1, {19, 8}}, {2, {18, 8}}, {4, {15, 6}},
                                         {6, {11, 5}}, {8, {10, 4}}, {0, {10, 4}}};
    for (const auto& [step, kept] : expected) {
        CAPTURE(step);
        routed.run(sequences, Decision::look_ahead, step);
        CHECK(routed.kept(1, sequences, 0) == kept[0]);
        CHECK(routed.kept(1, sequences, 1) == kept[1]);
    }
}

TEST_CASE("token choice takes the depth of the largest score, whatever the decision mode") {
    const Sequences sequences = random_sequences({20, 13, 1}, 29);
    for (const Decision decision : {Decision::look_ahead, Decision::causal}) {
        Routed<Token, Cpu> routed{4};
        routed.run(sequences, decision);
        const auto scores = mor::to_host(routed.trace.router.scores);
        const auto weight = mor::to_host(routed.trace.steps.front().view.weight);
        const Rows depths = mor::token_depths(routed.trace);
        Rows seen(5, 0);
        for (std::size_t row = 0; row < 34; ++row) {
            const auto first = scores.begin() + static_cast<std::ptrdiff_t>(4 * row);
            const auto best = std::max_element(first, first + 4);
            CHECK(depths[row] == best - first + 1);
            ++seen[static_cast<std::size_t>(depths[row])];
            double sum = 0;
            for (auto score = first; score != first + 4; ++score) {
                sum += std::exp(static_cast<double>(*score - *best));
            }
            CHECK(static_cast<double>(weight[row]) == doctest::Approx(1.3 / sum).epsilon(1e-5));
        }
        CHECK(seen[0] == 0);
        CHECK(std::count(seen.begin() + 1, seen.end(), 0) < 3);  // the test saw several depths
    }
}

TEST_CASE("equal scores of token choice go to the lower depth") {
    Routed<Token, Cpu> routed{3};
    find_parameter(routed.model, "model.router.weight")->fill(0.0);
    routed.run(random_sequences({6, 9}, 29), Decision::look_ahead);
    CHECK(mor::token_depths(routed.trace) == Rows(15, 1));
}

namespace {

/// Small whole numbers, so that the results are exact.
struct MergeCase {
    using B = mor::Reference<double>;
    B backend;
    mor::Context<B> context{backend};
    mor::MatrixView<B> h = context.matrix(3, 2);
    mor::IndexView<B> active = context.indices(2);
    mor::MatrixView<B> y = context.matrix(2, 2);
    mor::VectorView<B> weight = context.vector(2);
    mor::MatrixView<B> dy = context.matrix(2, 2);
    mor::MergeState<B> state = {};
    mor::MergeStep<B> step{active, weight};

    MergeCase() {
        mor::from_host(h, {1, 2, 3, 4, 5, 6});
        mor::from_host(active, {0, 2});
        mor::from_host(y, {10, 20, 30, 40});
        mor::from_host(weight, {2, 3});
    }
};
using Values = std::vector<double>;

}  // namespace

TEST_CASE("Replace puts the results in place of the kept rows") {
    using B = MergeCase::B;
    MergeCase merge;
    mor::Replace::step<B>(merge.context, merge.h, merge.state, merge.step, merge.y);
    CHECK(mor::to_host(merge.h) == Values{10, 20, 3, 4, 30, 40});
    mor::Replace::result_gradient<B>(merge.context, merge.h, merge.state, merge.step, merge.dy);
    CHECK(mor::to_host(merge.dy) == Values{10, 20, 30, 40});
    mor::from_host(merge.dy, {7, 7, 8, 8});
    mor::Replace::input_gradient<B>(merge.context, merge.dy, merge.step, merge.h);
    CHECK(mor::to_host(merge.h) == Values{7, 7, 3, 4, 8, 8});
}

TEST_CASE("GateEachStep adds the weighted results to the kept rows") {
    using B = MergeCase::B;
    MergeCase merge;
    mor::GateEachStep::step<B>(merge.context, merge.h, merge.state, merge.step, merge.y);
    CHECK(mor::to_host(merge.h) == Values{21, 42, 3, 4, 95, 126});
    mor::GateEachStep::result_gradient<B>(merge.context, merge.h, merge.state, merge.step,
                                          merge.dy);
    CHECK(mor::to_host(merge.dy) == Values{42, 84, 285, 378});
    mor::from_host(merge.dy, {7, 7, 8, 8});
    mor::GateEachStep::input_gradient<B>(merge.context, merge.dy, merge.step, merge.h);
    CHECK(mor::to_host(merge.h) == Values{28, 49, 3, 4, 103, 134});
}

TEST_CASE("WeightedMean puts the results in place and returns their weighted sum") {
    using B = MergeCase::B;
    MergeCase merge;
    mor::WeightedMean::begin<B>(merge.context, merge.h, merge.state);
    mor::WeightedMean::step<B>(merge.context, merge.h, merge.state, merge.step, merge.y);
    CHECK(mor::to_host(merge.h) == Values{10, 20, 3, 4, 30, 40});
    mor::from_host(merge.weight, {-1, 1});
    mor::WeightedMean::step<B>(merge.context, merge.h, merge.state, merge.step, merge.y);
    mor::WeightedMean::finish<B>(merge.context, merge.h, merge.state);
    CHECK(mor::to_host(merge.h) == Values{10, 20, 0, 0, 120, 160});

    mor::WeightedMean::finish_backward<B>(merge.context, merge.h, merge.state);
    CHECK(mor::to_host(merge.h) == Values{0, 0, 0, 0, 0, 0});
    mor::from_host(merge.h, {1, 1, 1, 1, 1, 1});  // of later steps
    mor::WeightedMean::result_gradient<B>(merge.context, merge.h, merge.state, merge.step,
                                          merge.dy);
    CHECK(mor::to_host(merge.dy) == Values{-9, -19, 121, 161});
    const auto dweight = mor::WeightedMean::weight_gradient<B>(merge.context, merge.h, merge.state,
                                                               merge.step, merge.y);
    CHECK(mor::to_host(dweight) == Values{500, 10000});
}

TEST_CASE("GateAtExit replaces in each step and adds the recursion's input at the end") {
    Routed<Token, mor::Reference<double>> routed{3};
    const Sequences sequences = random_sequences({7, 4}, 29);
    std::vector<Values> stages;
    const auto observer = [&]<class Seen>(const Seen& seen) {
        if constexpr (!std::same_as<Seen, mor::LayerSeen<mor::Reference<double>>> &&
                      !std::same_as<Seen, mor::PhaseSeen<mor::Reference<double>>>) {
            stages.push_back(mor::to_host(seen.hidden));
        }
    };
    routed.model.forward(routed.context, sequences.batch(), {}, routed.trace, observer);
    REQUIRE(stages.size() == 5);  // embedding, three steps, the exit
    const Values& entered = stages[0];
    const Values& exited = stages[3];
    const auto weight = mor::to_host(routed.trace.steps.front().view.weight);
    Values expected;
    for (std::size_t i = 0; i < entered.size(); ++i) {
        expected.push_back(entered[i] + weight[i / 16] * exited[i]);
    }
    CHECK(max_difference(stages[4], expected) < 1e-12);
    // Rows that left keep what they had.
    const Rows depths = mor::token_depths(routed.trace);
    for (std::size_t i = 0; i < entered.size(); ++i) {
        for (Index step = 1; step < 3; ++step) {
            if (depths[i / 16] <= step) {
                CHECK(stages[static_cast<std::size_t>(step) + 1][i] ==
                      stages[static_cast<std::size_t>(step)][i]);
            }
        }
    }
}

TEST_CASE("options out of range are refused with the number") {
    const auto expert = [](ExpertChoice::Options options) {
        return [options] { ExpertChoice{options}; };
    };
    const auto token = [](TokenChoice::Options options) {
        return [options] { TokenChoice{options}; };
    };
    const auto capacities = [](std::vector<double> values, Index warmup_steps = 0) {
        return [=] { CapacitySchedule{{.capacities = values, .warmup_steps = warmup_steps}}; };
    };
    CHECK(throws_with<ConfigError>(expert({.alpha = 0}), {"alpha is 0"}));
    CHECK(throws_with<ConfigError>(expert({.alpha = -1.5}), {"alpha is -1.5"}));
    CHECK(throws_with<ConfigError>(expert({.alpha = std::nan("")}), {"alpha is"}));
    CHECK(throws_with<ConfigError>(expert({.causality = {.threshold = 0}}), {"threshold is 0"}));
    CHECK(throws_with<ConfigError>(expert({.causality = {.threshold = 1}}), {"threshold is 1"}));
    CHECK(throws_with<ConfigError>(expert({.causality = {.threshold = 1.25}}),
                                   {"threshold is 1.25"}));
    CHECK(throws_with<ConfigError>(token({.alpha = 0}), {"alpha is 0"}));
    CHECK(throws_with<ConfigError>(token({.alpha = -2}), {"alpha is -2"}));
    CHECK(throws_with<ConfigError>(capacities({1.0, 0.0}), {"0 after 1"}));
    CHECK(throws_with<ConfigError>(capacities({1.5}), {"1.5 after 1"}));
    CHECK(throws_with<ConfigError>(capacities({0.5, 0.75}), {"0.75 after 0.5"}));
    CHECK(throws_with<ConfigError>(capacities({-0.5}), {"-0.5 after 1"}));
    CHECK(throws_with<ConfigError>(capacities({}, -3), {"warmup_steps is -3"}));
    CHECK_NOTHROW(capacities({1.0, 1.0, 0.5}, 3)());
}

TEST_CASE("a list of capacities for another number of steps is refused with both numbers") {
    auto options = small_options<Expert>();
    options.schedule.capacities = {1.0, 0.5};
    CHECK(throws_with<ConfigError>(
        [&] {
            Routed<Expert, Cpu> routed{3, options};
            routed.run(random_sequences({5}, 29), Decision::look_ahead);
        },
        {"2 capacities", "3 recursion steps"}));
}
