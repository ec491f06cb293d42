// SPDX-License-Identifier: Apache-2.0
//
// Time and operations of one training pass as the capacity of the recursion steps shrinks: real
// gather-compute-scatter must save time in proportion to the operations it saves.
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <vector>

namespace {

using Backend = mor::Cpu<float>;

/// Forward and backward over 8 sequences of 256 tokens; each of 3 steps takes range(0) percent of
/// them, or all without gathering if it is 0.
template <class A>
void pass(benchmark::State& state, const mor::ArchitectureOptions<A>& options) {
    Backend cpu;
    mor::Model<A, Backend> model{cpu,
                                 {.hidden_size = state.range(1),
                                  .intermediate_size = 3 * state.range(1),
                                  .num_layers = 8,
                                  .num_heads = state.range(1) / 32,
                                  .num_kv_heads = state.range(1) / 64},
                                 options};
    mor::Context<Backend> context{cpu};
    mor::Trace<A, Backend> trace;
    mor::Random random{1};
    std::vector<mor::TokenId> tokens(8 * 256);
    for (mor::TokenId& token : tokens) {
        token = static_cast<mor::TokenId>(random.below(256));
    }
    const std::vector<mor::Index> lengths(8, 256);
    double flops = 0;
    for (auto _ : state) {
        const double before = context.flops();
        model.forward(context, {tokens, lengths}, {}, trace);
        const auto dlogits = context.zero_matrix(trace.logits.rows(), trace.logits.columns());
        mor::backward(model, context, trace, dlogits);
        flops = context.flops() - before;
    }
    state.counters["gflop"] = flops / 1e9;
    state.counters["flops/s"] = benchmark::Counter(flops * static_cast<double>(state.iterations()),
                                                   benchmark::Counter::kIsRate);
}

void every_token(benchmark::State& state) { pass<mor::Recursive<>>(state, {}); }

void expert_choice(benchmark::State& state) {
    const double capacity = static_cast<double>(state.range(0)) / 100;
    pass<mor::MoRExpert<>>(state, {.schedule = {.capacities = {capacity, capacity, capacity}}});
}

BENCHMARK(every_token)
    ->Args({100, 128})
    ->Args({100, 256})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(expert_choice)
    ->ArgsProduct({{100, 75, 50, 25, 12}, {128, 256}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
