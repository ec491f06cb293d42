// SPDX-License-Identifier: Apache-2.0
//
// Prefill of a prompt when only its last token's logits are wanted. With Cycle sharing and
// recursive key sharing later recursions compute no keys, so they run for that token alone.
#include "run.hpp"
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;

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
    for (auto _ : state) {
        cache.clear(0);
        const double before = context.flops();
        model.extend(context, {prompt, lengths}, cache, trace, {.logits = which});
        flops = context.flops() - before;
    }
    state.counters["GFLOP"] = flops / 1e9;
}

template <class C>
using Recursive = mor::Recursive<mor::Cycle, C>;
template <class C>
using Expert = mor::MoRExpert<mor::Cycle, C>;

BENCHMARK(prefill<Recursive<mor::RecursionWiseCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Recursive<mor::RecursiveSharingCache>, mor::Logits::all_rows>)
    ->DenseRange(2, 4)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Recursive<mor::RecursiveSharingCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(prefill<Expert<mor::RecursiveSharingCache>, mor::Logits::last_rows>)
    ->DenseRange(2, 4)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return benchmarks::run(argc, argv); }
