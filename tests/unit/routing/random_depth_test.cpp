// SPDX-License-Identifier: Apache-2.0
//
// Random depth in training: the numbers drawn, and models that really stop there.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/routing/random_depth.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using mor::RandomDepth;

using Cpu = mor::Cpu<float>;

/// The depths of the first `count` training passes.
std::vector<Index> depths_of(const RandomDepth& router, Index count, Index num_steps) {
    std::vector<Index> depths;
    for (Index training_step = 1; training_step <= count; ++training_step) {
        depths.push_back(router.depth(training_step, num_steps));
    }
    return depths;
}

struct Moments {
    double mean = 0;
    double variance = 0;
};

Moments moments_of(const std::vector<Index>& depths) {
    double sum = 0;
    double squares = 0;
    for (const Index depth : depths) {
        const auto value = static_cast<double>(depth);
        sum += value;
        squares += value * value;
    }
    const auto count = static_cast<double>(depths.size());
    return {sum / count, squares / count - sum * sum / (count * count)};
}

/// How many rows took each step of a pass in training, or of any other if training_step is 0.
std::vector<Index> rows_per_step(const mor::Model<SandwichRandomDepth, Cpu>& model,
                                 Index training_step, mor::Decision decision,
                                 const mor::DepthControl& depth = {}) {
    mor::Context<Cpu> context{model.backend()};
    mor::Trace<SandwichRandomDepth, Cpu> trace;
    const Sequences sequences = random_sequences({6, 1, 9}, model.config().vocab_size, 5);
    model.forward(context, sequences.batch(),
                  {.decision = decision, .training_step = training_step, .depth = depth}, trace);
    std::vector<Index> counts;
    for (const auto& step : trace.steps) {
        counts.push_back(step.active.size());
    }
    return counts;
}

/// All 16 rows take the first `depth` of three steps, and none the others.
std::vector<Index> all_rows_until(Index depth) {
    std::vector<Index> counts(3, 0);
    std::fill_n(counts.begin(), depth, 16);
    return counts;
}

}  // namespace

TEST_CASE("a random depth is between 1 and the number of steps, and takes all of these values") {
    for (const double mean : {0.1, 2.0, 50.0}) {
        const RandomDepth router{{.mean = mean}};
        for (const Index depth : depths_of(router, 500, 1)) {
            CHECK(depth == 1);
        }
        for (const Index depth : depths_of(router, 500, 4)) {
            CHECK(depth >= 1);
            CHECK(depth <= 4);
        }
    }
    const auto depths = depths_of(RandomDepth{{.mean = 2.0}}, 500, 4);
    CHECK(std::set<Index>(depths.begin(), depths.end()) == std::set<Index>{1, 2, 3, 4});
}

TEST_CASE("where the number of steps is no limit, depths are 1 more than a log-normal Poisson") {
    for (const double mean : {0.5, 3.0, 8.0}) {
        for (const double deviation : {0.0, 0.5}) {
            CAPTURE(mean);
            CAPTURE(deviation);
            const RandomDepth router{{.mean = mean, .deviation = deviation}};
            const Moments found = moments_of(depths_of(router, 20'000, 1'000));
            // The variance of the rate adds to that of a Poisson distribution.
            const double variance = mean + mean * mean * std::expm1(deviation * deviation);
            // Five standard errors.
            CHECK(std::abs(found.mean - (1 + mean)) < 5 * std::sqrt(variance / 20'000));
            CHECK(found.variance == doctest::Approx(variance).epsilon(0.1));
        }
    }
}

TEST_CASE("the seed and the training step alone decide the depth") {
    const RandomDepth router{{.seed = 1}};
    const auto depths = depths_of(router, 200, 6);
    CHECK(depths == depths_of(router, 200, 6));
    CHECK(depths == depths_of(RandomDepth{{.seed = 1}}, 200, 6));
    CHECK(depths != depths_of(RandomDepth{{.seed = 2}}, 200, 6));
}

TEST_CASE("in training a pass has as many steps as were drawn, otherwise all") {
    Cpu cpu{{.threads = 1}};
    using A = SandwichRandomDepth;
    const mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    std::set<Index> seen;
    for (Index training_step = 1; training_step <= 20; ++training_step) {
        const Index depth = model.router().depth(training_step, 3);
        CHECK(rows_per_step(model, training_step, mor::Decision::look_ahead) ==
              all_rows_until(depth));
        seen.insert(depth);
    }
    CHECK(seen == std::set<Index>{1, 2, 3});
    for (const auto decision : {mor::Decision::look_ahead, mor::Decision::causal}) {
        CHECK(rows_per_step(model, 0, decision) == all_rows_until(3));
    }
    CHECK(rows_per_step(model, 0, mor::Decision::causal, {.max_depth = 2}) == all_rows_until(2));
}

TEST_CASE("the trainer draws a depth for each update") {
    Cpu cpu{{.threads = 1}};
    using A = SandwichRandomDepth;
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    const TokenText text = random_text(200);
    mor::Trainer trainer{
        model, text, text.all(), {.steps = 20, .batch = 2, .sequence = 10, .seed = 4}};
    trainer.run([&](const mor::StepReport& report) {
        const Index depth = model.router().depth(report.step, 3);
        for (Index step = 0; step < 3; ++step) {
            CHECK(report.active_share[static_cast<std::size_t>(step)] == (step < depth ? 1.0 : 0));
        }
    });
}
