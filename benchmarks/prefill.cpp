// SPDX-License-Identifier: Apache-2.0
//
// Prefill of a prompt when only its last token's logits are wanted: dense models of published
// shapes, and what routing and shared keys save. With Cycle sharing and recursive key sharing later
// recursions compute no keys, so they run for that token alone. Bytes are those of the weights.
#include "reads.hpp"
#include "run.hpp"
#include "serving.hpp"
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;

benchmarks::Roofline roofline;

template <class A, mor::Logits which>
void prefill(benchmark::State& state) {
    const auto num_recursions = static_cast<Index>(state.range(0));
    Cpu cpu;
    const mor::Model<A, Cpu> model{cpu,
                                   {.hidden_size = 256,
                                    .intermediate_size = 768,
                                    .num_layers = 12,
                                    .num_heads = 4,
                                    .num_kv_heads = 2,
                                    .head_dim = 64},
                                   {.sharing = {.num_recursions = num_recursions}}};
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    auto cache = model.make_cache(1);
    const std::vector<mor::TokenId> prompt(1'024, 97);
    const std::vector<Index> lengths{std::ssize(prompt)};
    double flops = 0;
    double bytes = 0;
    for (auto _ : state) {
        cache.clear(0);
        const double before = context.flops();
        benchmarks::ReadCounter<Cpu> counter{model.config()};
        model.extend(context, {prompt, lengths}, cache, trace, {.logits = which}, counter);
        flops = context.flops() - before;
        bytes = counter.reads().weights;
    }
    benchmarks::report(state, roofline, flops, bytes);
    state.counters["GFLOP"] = flops / 1e9;
}

/// 512 tokens of a model that has decoded before, so that its weights are packed.
template <class A, class Backend>
void prefill_512(benchmark::State& state, const char* name, Index num_recursions) {
    const auto& model = serving::model_of<A, Backend>(name, num_recursions);
    mor::Context<Backend> context{model.backend()};
    mor::Trace<A, Backend> trace;
    auto cache = model.make_cache(1);
    const std::vector<mor::TokenId> prompt(512, 97);
    const auto extend = [&](Index length) {
        const std::vector<mor::TokenId> tokens(prompt.begin(), prompt.begin() + length);
        const std::vector<Index> lengths{length};
        cache.clear(0);
        benchmarks::ReadCounter<Backend> counter{model.config()};
        model.extend(context, {tokens, lengths}, cache, trace, {.logits = mor::Logits::last_rows},
                     counter);
        return counter.reads().weights;
    };
    extend(1);
    double flops = context.flops();
    double bytes = 0;
    for (auto _ : state) {
        bytes = extend(std::ssize(prompt));
    }
    flops = (context.flops() - flops) / static_cast<double>(state.iterations());
    benchmarks::report<Backend>(state, roofline, flops, bytes);
    state.counters["flops_per_pass"] = flops;
    state.counters["tokens/s"] = benchmark::Counter(512.0 * static_cast<double>(state.iterations()),
                                                    benchmark::Counter::kIsRate);
}
template <class A, class Backend = Cpu>
void add(const std::string& name, const char* shape, Index num_recursions = 1) {
    benchmark::RegisterBenchmark(
        name.c_str(),
        [=](benchmark::State& state) { prefill_512<A, Backend>(state, shape, num_recursions); })
        ->Iterations(3)
        ->Repetitions(5)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
}

template <class C>
using Recursive = mor::Recursive<mor::Cycle, C>;
template <class C>
using Expert = mor::MoRExpert<mor::Cycle, C>;

BENCHMARK(prefill<Recursive<mor::RecursionWiseCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Repetitions(5)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Recursive<mor::RecursiveSharingCache>, mor::Logits::all_rows>)
    ->DenseRange(2, 4)
    ->Repetitions(5)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Recursive<mor::RecursiveSharingCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Repetitions(5)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Expert<mor::RecursiveSharingCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Repetitions(5)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    for (const char* const shape : {"135M", "360M"}) {
        add<mor::Vanilla>(std::string{"dense/"} + shape, shape);
        add<mor::Vanilla, serving::RoundingCpu>(std::string{"dense_bfloat16/"} + shape, shape);
    }
    for (const Index num_recursions : {2, 3, 4}) {
        add<serving::BalancedMoR>("mor_balanced/" + std::to_string(num_recursions), "135M",
                                  num_recursions);
    }
    return benchmarks::run(argc, argv);
}
