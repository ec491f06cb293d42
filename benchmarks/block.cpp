// SPDX-License-Identifier: Apache-2.0
//
// Decoder blocks of the 135M and 360M shapes, forward and backward: four layers and a head of 256
// words, which weighs next to nothing; on all threads, and on one.
#include "run.hpp"
#include "serving.hpp"

#include <map>
#include <vector>

namespace {

using serving::Cpu;
using serving::Index;

std::map<Index, benchmarks::Roofline> rooflines;  // of so many threads

/// Passes over sequences of state.range(1) tokens, state.range(0) tokens in all, on state.range(2)
/// threads.
struct Passes {
    Passes(const char* shape, benchmark::State& state)
        : cpu{{.threads = state.range(2)}},
          model{cpu, sizes_for(shape, state.range(1)), {}, 1},
          tokens(static_cast<std::size_t>(state.range(0)), 7),
          lengths(static_cast<std::size_t>(state.range(0) / state.range(1)), state.range(1)) {}

    static mor::ModelConfig sizes_for(const char* shape, Index length) {
        mor::ModelConfig sizes = serving::sizes_of(shape);
        sizes.num_layers = 4;
        sizes.vocab_size = 256;
        sizes.max_positions = length;
        return sizes;
    }
    void forward() { model.forward(context, {tokens, lengths}, {}, trace); }
    void backward() { mor::backward(model, context, trace, trace.logits); }

    Cpu cpu;
    mor::Model<mor::Vanilla, Cpu> model;
    mor::Context<Cpu> context{cpu};
    mor::Trace<mor::Vanilla, Cpu> trace;
    std::vector<mor::TokenId> tokens;
    std::vector<Index> lengths;
};

/// `times`: how often the weights, or their gradients, are read or written.
void finish(benchmark::State& state, const Passes& passes, double flops, double times) {
    const auto parameters = static_cast<double>(passes.model.num_parameters());
    benchmarks::report(state, rooflines.at(state.range(2)),
                       flops / static_cast<double>(state.iterations()),
                       times * sizeof(float) * parameters);
}

void forward(benchmark::State& state, const char* shape) {
    Passes passes{shape, state};
    passes.forward();
    const double before = passes.context.flops();
    for (auto _ : state) {
        passes.forward();
    }
    finish(state, passes, passes.context.flops() - before, 1);
}

void backward(benchmark::State& state, const char* shape) {
    Passes passes{shape, state};
    double flops = 0;
    for (auto _ : state) {
        state.PauseTiming();
        passes.forward();
        const double before = passes.context.flops();
        state.ResumeTiming();
        passes.backward();
        flops += passes.context.flops() - before;
    }
    finish(state, passes, flops, 3);  // weights, and gradients that are added to
}

void add(const char* name, void (*function)(benchmark::State&, const char*), const char* shape) {
    auto* const entry = benchmark::RegisterBenchmark(name, function, shape);
    entry->ArgNames({"tokens", "length", "threads"})
        ->Repetitions(5)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    for (const auto& [threads, roofline] : rooflines) {
        entry->Args({512, 512, threads})->Args({2'048, 256, threads});
    }
}

}  // namespace

int main(int argc, char** argv) {
    for (const Index threads : {Index{1}, Cpu{}.threads()}) {
        rooflines[threads] = benchmarks::add_roofline(threads);
    }
    add("forward_135M", forward, "135M");
    add("backward_135M", backward, "135M");
    add("forward_360M", forward, "360M");
    add("backward_360M", backward, "360M");
    return benchmarks::run(argc, argv);
}
