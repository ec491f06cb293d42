// SPDX-License-Identifier: Apache-2.0
//
// What the router metrics cost beside the training step that they watch.
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <span>
#include <string>

namespace {

using Cpu = mor::Cpu<float>;

/// Random bytes: the time does not depend on them.
struct Noise {
    [[nodiscard]] static mor::Index size() { return 1 << 20; }
    [[nodiscard]] static const std::string& name() {
        static const std::string name = "noise";
        return name;
    }
    static void read(mor::Index offset, std::span<mor::TokenId> out) {
        mor::Random random{1, static_cast<std::uint64_t>(offset)};
        for (mor::TokenId& token : out) {
            token = static_cast<mor::TokenId>(random.below(256));
        }
    }
};

template <class A>
struct Training {
    Cpu cpu;
    mor::Model<A, Cpu> model{cpu, {}};
    Noise noise;
    mor::Trainer<A, Cpu, Noise> trainer{
        model, noise, {0, Noise::size()}, {.steps = 1 << 20, .measures_routing = false}};
};

template <class A>
void training_step(benchmark::State& state) {
    Training<A> training;
    for (auto _ : state) {
        benchmark::DoNotOptimize(training.trainer.step().loss);
    }
}

template <class A>
void metrics(benchmark::State& state) {
    Training<A> training;
    mor::Context<Cpu> context{training.cpu};
    mor::Trace<A, Cpu> trace;
    const auto batch = mor::random_windows(training.noise, {0, Noise::size()}, 8, 256, 1, 0);
    training.model.forward(context, {batch.tokens, batch.lengths}, {}, trace);
    for (auto _ : state) {
        benchmark::DoNotOptimize(mor::measure_routing(training.model.router(), trace));
    }
}

BENCHMARK(training_step<mor::MoRExpert<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(metrics<mor::MoRExpert<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(training_step<mor::MoRToken<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(metrics<mor::MoRToken<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
