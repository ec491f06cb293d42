// SPDX-License-Identifier: Apache-2.0
//
// A run repeats bit for bit, on several threads too.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Cpu = mor::Cpu<float>;

}  // namespace

TEST_CASE_TEMPLATE("two runs on two threads end with the same bits", A, mor::Vanilla,
                   mor::Recursive<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    mor::ModelConfig config = small_config<A>();
    config.hidden_size = 64;  // large enough that the work is really divided
    config.head_dim = 16;
    config.intermediate_size = 128;
    const auto text = random_text(2'000);
    const auto run = [&](std::uint64_t seed) {
        Cpu cpu{{.threads = 2}};
        mor::Model<A, Cpu> model{cpu, config, small_options<A>(), 3};
        mor::Trainer trainer{model, text, text.all(), {.batch = 10, .sequence = 60, .seed = seed}};
        for (int step = 0; step < 2; ++step) {
            trainer.step();
        }
        return weights_of(model);
    };
    const auto first = run(1);
    CHECK(run(1) == first);
    CHECK(run(2) != first);
}
