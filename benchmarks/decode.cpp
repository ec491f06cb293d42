// SPDX-License-Identifier: Apache-2.0
//
// One token for each of 1, 8 or 32 sequences of 64 tokens, at the shape of 135M: the dense model,
// and MoR whose depths are balanced. Weights are read once for each step that any sequence takes;
// bytes count those, and the keys and values.
#include "reads.hpp"
#include "run.hpp"
#include "serving.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

namespace {

using serving::BalancedMoR;
using serving::Cpu;
using serving::Index;
using serving::RoundingCpu;

benchmarks::Roofline roofline;

template <class A, class Backend>
void decode(benchmark::State& state) {
    const Index batch = state.range(0);
    const auto& model = serving::model_of<A, Backend>("135M", state.range(1));
    mor::Context<Backend> context{model.backend()};
    mor::Trace<A, Backend> trace;
    auto cache = model.make_cache(batch);
    mor::Random random{1};
    const auto draw = [&](Index count) {
        std::vector<mor::TokenId> tokens;
        for (Index i = 0; i < count; ++i) {
            tokens.push_back(static_cast<mor::TokenId>(random.below(model.config().vocab_size)));
        }
        return tokens;
    };
    const std::vector<Index> prompt(static_cast<std::size_t>(batch), 64);
    model.extend(context, {draw(64 * batch), prompt}, cache, trace,
                 {.logits = mor::Logits::last_rows});
    const std::vector<Index> one(static_cast<std::size_t>(batch), 1);
    model.extend(context, {draw(batch), one}, cache, trace);  // packs the weights
    benchmarks::Reads all;
    double flops = context.flops();
    const double bandwidth_before = batch == 1 ? benchmarks::measure_memory_now() : 0;
    const auto start = serving::Clock::now();
    for (auto _ : state) {
        benchmarks::ReadCounter<Backend> counter{model.config()};
        model.extend(context, {draw(batch), one}, cache, trace, {}, counter);
        all += counter.reads();
    }
    const double seconds = std::chrono::duration<double>(serving::Clock::now() - start).count();
    const auto iterations = static_cast<double>(state.iterations());
    flops = (context.flops() - flops) / iterations;
    benchmarks::report<Backend>(state, roofline, flops, all.sum() / iterations);
    if (batch == 1) {
        const double bandwidth = 0.5 * (bandwidth_before + benchmarks::measure_memory_now());
        state.counters["of_memory_beside"] = all.sum() / seconds / bandwidth;
    }
    state.counters["bytes_per_step"] = all.sum() / iterations;
    state.counters["flops_per_step"] = flops;
    state.counters["tokens/s"] =
        benchmark::Counter(static_cast<double>(batch) * iterations, benchmark::Counter::kIsRate);
}

template <class A, class Backend = Cpu>
void add(const char* name, Index num_recursions) {
    auto* const entry = benchmark::RegisterBenchmark(name, decode<A, Backend>);
    entry->ArgNames({"batch", "recursions"})
        ->Iterations(40)
        ->Repetitions(5)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    for (const Index batch : {1, 8, 32}) {
        entry->Args({batch, num_recursions});
    }
}

}  // namespace

int main(int argc, char** argv) {
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    add<mor::Vanilla>("dense", 1);
    add<mor::Vanilla, RoundingCpu>("dense_bfloat16", 1);
    add<mor::Recursive<>>("recursive", 3);
    for (const Index num_recursions : {2, 3, 4}) {
        add<BalancedMoR>("mor_balanced", num_recursions);
    }
    return benchmarks::run(argc, argv);
}
