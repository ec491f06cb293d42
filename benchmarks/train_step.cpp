// SPDX-License-Identifier: Apache-2.0
//
// One update of models of the 135M shape on 4 x 256 tokens: the dense model, and MoR with the
// default capacities. Each reports its operations, its share of the peak, and the memory that
// weights, gradients, optimiser and activations take; peak_memory.py asks the system.
#include "noise.hpp"
#include "run.hpp"
#include "serving.hpp"

namespace {

using benchmarks::Noise;
using serving::Cpu;
using serving::Index;

benchmarks::Roofline roofline;

template <class A, class Backend>
struct Training {
    static serving::Shape<A> shape_of(Index num_recursions) {
        mor::ModelConfig sizes = serving::sizes_of("135M");
        sizes.max_positions = 256;
        return {sizes, num_recursions};
    }

    explicit Training(Index num_recursions)
        : shape{shape_of(num_recursions)},
          model{cpu, shape.sizes, shape.options, 1},
          noise{model.config().vocab_size},
          trainer{model,
                  noise,
                  {0, Noise::size()},
                  {.steps = 1 << 20, .batch = 4, .sequence = 256, .measures_routing = false}} {}

    serving::Shape<A> shape;
    Backend cpu;
    mor::Model<A, Backend> model;
    Noise noise;
    mor::Trainer<A, Backend, Noise> trainer;
};

/// Operations a second, as a share of the peak.
template <class A, class Backend>
void train_step(benchmark::State& state) {
    Training<A, Backend> training{state.range(0)};
    training.trainer.step();  // allocates
    training.trainer.step();  // makes one piece of what was allocated
    const Index allocations = training.trainer.context().arena().allocations();
    double flops = 0;
    for (auto _ : state) {
        flops = training.trainer.step().flops;
    }
    const auto parameters = static_cast<double>(training.model.num_parameters());
    const auto arena = static_cast<double>(training.trainer.context().arena().capacity_bytes());
    // About: weights are read by the forward pass and for the gradients of what came in; each
    // weight's gradient is added to once, and the optimiser reads four numbers and writes three.
    // Activations are written and read.
    benchmarks::report<Backend>(state, roofline, flops,
                                sizeof(float) * parameters * (2 + 2 + 4 + 3) + 2 * arena);
    state.counters["flops_per_step"] = flops;
    state.counters["tokens/s"] = benchmark::Counter(
        1'024.0 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
    state.counters["allocations"] =
        static_cast<double>(training.trainer.context().arena().allocations() - allocations);
    // Weight, gradient and two moments of each parameter, and the activations.
    state.counters["memory_bytes"] = 4 * sizeof(float) * parameters + arena;
    state.counters["activation_bytes"] = arena;
}

template <class A, class Backend = Cpu>
void add(const char* name, Index num_recursions) {
    benchmark::RegisterBenchmark(name, train_step<A, Backend>)
        ->Arg(num_recursions)
        ->Iterations(2)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    add<mor::Vanilla>("dense", 1);
    add<mor::Vanilla, serving::RoundingCpu>("dense_bfloat16", 1);
    add<mor::Recursive<>>("recursive", 3);
    for (const Index num_recursions : {2, 3, 4}) {
        add<mor::MoRExpert<>>("mor_expert", num_recursions);
    }
    return benchmarks::run(argc, argv);
}
