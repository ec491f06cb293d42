// SPDX-License-Identifier: Apache-2.0
//
// Every architecture learns.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <cmath>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Cpu = mor::Cpu<float>;

template <class A>
mor::ModelConfig fresh_config() {
    mor::ModelConfig config = small_config<A>();
    config.initializer_range = 0.05;
    return config;
}

}  // namespace

TEST_CASE_TEMPLATE("a repeated pattern is learnt", A, mor::Vanilla, mor::Recursive<>,
                   mor::MoRExpert<>, mor::MoRToken<>) {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, fresh_config<A>(), {}, 3};
    const auto text = repeating_text(1'000);
    mor::Trainer trainer{model,
                         text,
                         text.all(),
                         {.steps = 120,
                          .batch = 4,
                          .sequence = 22,
                          .optimizer = {.learning_rate = 0.01},
                          .schedule = {.warmup_steps = 5, .cooldown_steps = 24}}};
    double first = 0;
    double last = 0;
    trainer.run([&](const mor::StepReport& report) {
        first = report.step == 1 ? report.loss : first;
        last = report.loss;
        return true;
    });
    CHECK(first == doctest::Approx(std::log(29.0)).epsilon(0.05));
    CHECK(last < 0.1);

    // And with causal decisions too, as a user will run it.
    const auto result = mor::evaluate(model, trainer.context(), text, text.all(), {.sequence = 22});
    CHECK(result.nats_per_token < 0.15);
}
