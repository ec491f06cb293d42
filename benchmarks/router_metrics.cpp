// SPDX-License-Identifier: Apache-2.0
//
// What the router metrics cost beside the training step that they watch: to measure them, and to
// write the update's line to the metrics file.
#include "noise.hpp"
#include "run.hpp"
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <filesystem>
#include <span>
#include <string>

namespace {

using Cpu = mor::Cpu<float>;
using benchmarks::Noise;

template <class A>
struct Training {
    Cpu cpu;
    mor::Model<A, Cpu> model{cpu, {}};
    Noise noise{256};
    mor::Trainer<A, Cpu, Noise> trainer;

    explicit Training(bool measures_routing)
        : trainer{model,
                  noise,
                  {0, Noise::size()},
                  {.steps = 1 << 20, .measures_routing = measures_routing}} {}
};

template <class A>
void training_step(benchmark::State& state) {
    Training<A> training{false};
    for (auto _ : state) {
        benchmark::DoNotOptimize(training.trainer.step().loss);
    }
}

template <class A>
void metrics(benchmark::State& state) {
    Training<A> training{false};
    mor::Context<Cpu> context{training.cpu};
    mor::Trace<A, Cpu> trace;
    const auto batch = mor::random_windows(training.noise, {0, Noise::size()}, 8, 256, 1, 0);
    training.model.forward(context, {batch.tokens, batch.lengths}, {}, trace);
    for (auto _ : state) {
        benchmark::DoNotOptimize(mor::measure_routing(training.model.router(), trace));
    }
}

template <class A>
void line(benchmark::State& state) {
    Training<A> training{true};
    const mor::StepReport report = training.trainer.step();
    const auto path = std::filesystem::temp_directory_path() / "mor_router_metrics.jsonl";
    std::filesystem::remove(path);
    {
        mor::MetricsFile file{path};
        for (auto _ : state) {
            file.write(report);
        }
    }
    state.counters["bytes"] = benchmark::Counter(
        static_cast<double>(std::filesystem::file_size(path)), benchmark::Counter::kAvgIterations);
    std::filesystem::remove(path);
}

BENCHMARK(training_step<mor::MoRExpert<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(metrics<mor::MoRExpert<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(line<mor::MoRExpert<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(training_step<mor::MoRToken<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(metrics<mor::MoRToken<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(line<mor::MoRToken<>>)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return benchmarks::run(argc, argv); }
