// SPDX-License-Identifier: Apache-2.0
//
// How often a training step copies numbers to the host, for which it waits on a GPU.
#include <mor/backends/cuda/cuda_host.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace {

using namespace mor::test;
using mor::Index;

/// Counts copies to the host.
struct CountingSpace : mor::HostSpace {
    static inline Index copies = 0;
    static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
        copies += bytes > 0 ? 1 : 0;
        HostSpace::copy_to_host(destination, source, bytes);
    }
};
/// Counts how often Thrust is asked how many rows it has selected.
struct CountingSystem : mor::cuda::ProcessorSystem<CountingSpace> {
    static constexpr std::string_view name = "cuda-counting";
    static inline Index selections = 0;
    template <class Allocator, class Algorithm>
    auto run_algorithm(std::string_view call, Allocator& allocator,
                       const Algorithm& algorithm) const {
        selections += call == "thrust::copy_if" ? 1 : 0;
        return ProcessorSystem::run_algorithm(call, allocator, algorithm);
    }
};

using Counting = mor::Cuda<double, CountingSystem>;

/// What act() copies to the host.
template <class Act>
Index copies_of(const Act& act) {
    const Index before = CountingSpace::copies;
    act();
    return CountingSpace::copies - before;
}

}  // namespace

// At the end of a step: the loss and the norms, the router's losses, and, as at its beginning, how
// many pairs attention saw if only the device knows, each in one copy. (How many rows a router
// keeps is asked for by Thrust, which copies for itself.)
TEST_CASE_TEMPLATE("a training step copies numbers to the host at its end, each kind once", A,
                   mor::Vanilla, mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>, ExpertAuxiliary, CyclePonder,
                   ExpertStepEmbedding) {
    Counting backend;
    mor::Model<A, Counting> model{backend, small_config<A>(), small_options<A>(), 3};
    const auto text = random_text(500);
    constexpr Index micro_batches = 3;
    mor::Trainer trainer{
        model,
        text,
        text.all(),
        {.batch = 2, .sequence = 20, .micro_batches = micro_batches, .measures_routing = false}};
    mor::Context<Counting> context{backend};
    mor::Trace<A, Counting> trace;
    const Sequences sequences = random_sequences({20, 20}, 29);
    const Index forward =
        copies_of([&] { model.forward(context, sequences.batch(), {.training_step = 1}, trace); });
    const Index counts_pairs = copies_of([&] { static_cast<void>(context.flops()); });
    for (int step = 0; step < 3; ++step) {
        Index num_losses = 0;
        const Index whole = copies_of([&] { num_losses = std::ssize(trainer.step().losses); });
        const Index expected = 1 + (num_losses > 0 ? 1 : 0) + (step > 0 ? 2 : 1) * counts_pairs;
        CHECK(whole - micro_batches * forward == expected);
    }
}

TEST_CASE_TEMPLATE("halting asks in each step but the first, token-choice once a pass, for depths",
                   A, mor::MoRToken<mor::MiddleCycle>, CyclePonder) {
    Counting backend;
    const mor::Model<A, Counting> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::Context<Counting> context{backend};
    mor::Trace<A, Counting> trace;
    const Sequences sequences = random_sequences({20, 20}, 29);
    const bool is_halting = std::is_same_v<A, CyclePonder>;
    const Index num_steps = model.layout().num_steps;
    REQUIRE(num_steps == 3);
    CountingSystem::selections = 0;
    const Index copies =
        copies_of([&] { model.forward(context, sequences.batch(), {.training_step = 1}, trace); });
    CHECK(CountingSystem::selections == (is_halting ? num_steps - 1 : 0));
    CHECK(copies == (is_halting ? 0 : 1));
    // With the depths the host knows how many pairs attention saw.
    CHECK(copies_of([&] { static_cast<void>(context.flops()); }) == (is_halting ? 1 : 0));
    CHECK(trace.steps.front().kept.size() == 40);
    CHECK(trace.steps.back().kept.size() < 40);

    auto cache = model.make_cache(2);
    CountingSystem::selections = 0;
    const Index cached_copies = copies_of([&] {
        model.extend(context, sequences.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    });
    CHECK(CountingSystem::selections == (is_halting ? num_steps - 1 : 0));
    const auto left_some = [](const auto& step) {
        return step.kept.size() < step.view.num_candidates();
    };
    const Index asked = std::count_if(trace.steps.begin(), trace.steps.end(), left_some);
    REQUIRE(asked > 0);
    CHECK(cached_copies == (is_halting ? asked : 1));  // which rows go on, or the depths
}
