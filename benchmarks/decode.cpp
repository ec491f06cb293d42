// SPDX-License-Identifier: Apache-2.0
//
// One token for each of 1, 8 or 32 sequences of 64 tokens, at the shape of 135M: the dense model,
// and MoR whose depths are balanced. Weights are read once for each step that any sequence takes;
// bytes count those, and the keys and values.
#include "run.hpp"
#include "serving.hpp"

#include <algorithm>
#include <concepts>
#include <vector>

namespace {

using serving::BalancedMoR;
using serving::Cpu;
using serving::Index;
using serving::RoundingCpu;

benchmarks::Roofline roofline;

/// What a pass reads, in bytes.
struct Reads {
    double weights = 0;
    double keys = 0;
};

/// Adds up the weights and keys of the layers that a pass runs.
template <class Backend>
class ReadCounter {
    static constexpr double weight_bytes =
        std::same_as<Backend, RoundingCpu> ? sizeof(mor::BFloat16) : sizeof(float);

public:
    explicit ReadCounter(const mor::ModelConfig& sizes) {
        const auto hidden = static_cast<double>(sizes.hidden_size);
        const auto kv = static_cast<double>(sizes.num_kv_heads * sizes.head_dim);
        const auto heads = static_cast<double>(sizes.num_heads * sizes.head_dim);
        layer_ = weight_bytes * hidden *
                 (2 * heads + 2 * kv + 3 * static_cast<double>(sizes.intermediate_size));
        pair_ = 2 * sizeof(float) * kv;
        reads_.weights = weight_bytes * hidden * static_cast<double>(sizes.vocab_size);
    }
    void operator()(const mor::LayerSeen<Backend>& seen) {
        reads_.weights += seen.rows.size() > 0 ? layer_ : 0;
        reads_.keys += pair_ * static_cast<double>(seen.visible_keys);
    }
    [[nodiscard]] const Reads& reads() const { return reads_; }

private:
    double layer_ = 0;
    double pair_ = 0;
    Reads reads_;
};

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
    Reads all;
    double flops = context.flops();
    for (auto _ : state) {
        ReadCounter<Backend> counter{model.config()};
        model.extend(context, {draw(batch), one}, cache, trace, {}, counter);
        all.weights += counter.reads().weights;
        all.keys += counter.reads().keys;
    }
    const auto iterations = static_cast<double>(state.iterations());
    flops = (context.flops() - flops) / iterations;
    benchmarks::report<Backend>(state, roofline, flops, (all.weights + all.keys) / iterations);
    state.counters["bytes_per_step"] = (all.weights + all.keys) / iterations;
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
