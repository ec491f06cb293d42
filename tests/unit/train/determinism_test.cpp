// SPDX-License-Identifier: Apache-2.0
//
// A run repeats bit for bit, on any number of threads.
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

TEST_CASE_TEMPLATE("weights depend on the seed, and not on the number of threads", A, mor::Vanilla,
                   mor::Recursive<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    mor::ModelConfig config = small_config<A>();
    config.hidden_size = 72;  // large enough that the work is really divided, at odd places
    config.head_dim = 18;
    config.intermediate_size = 150;
    const auto text = random_text(2'000);
    const auto run = [&](std::uint64_t seed, mor::Index threads) {
        Cpu cpu{{.threads = threads}};
        mor::Model<A, Cpu> model{cpu, config, small_options<A>(), 3};
        mor::Trainer trainer{model, text, text.all(), {.batch = 10, .sequence = 61, .seed = seed}};
        for (int step = 0; step < 2; ++step) {
            trainer.step();
        }
        return weights_of(model);
    };
    const auto first = run(1, 2);
    CHECK(run(1, 2) == first);
    CHECK(run(1, 1) == first);
    CHECK(run(1, 3) == first);
    CHECK(run(2, 1) != first);
}
