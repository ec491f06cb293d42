// SPDX-License-Identifier: Apache-2.0
//
// How often a training step copies numbers to the host, for which it waits on a GPU.
#include <mor/backends/cuda/cuda_host.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <cstddef>
#include <string_view>

namespace {

using namespace mor::test;
using mor::Index;

/// A HostSystem that counts copies to the host.
struct CountingSystem : mor::cuda::HostSystem {
    struct Space : mor::HostSpace {
        static inline Index copies = 0;
        static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
            ++copies;
            HostSpace::copy_to_host(destination, source, bytes);
        }
    };
    static constexpr std::string_view name = "cuda-counting";

    template <class T>
    void product(const mor::cuda::Factor<T, Space>& a, const mor::cuda::Factor<T, Space>& b,
                 mor::View<T, 2, Space> c, mor::Write write) const {
        const auto of_host = [](const auto& factor) {
            return mor::cuda::Factor<T, HostSystem::Space>{
                {factor.matrix.data(), factor.matrix.extents()}, factor.reading};
        };
        const mor::View<T, 2, HostSystem::Space> out{c.data(), c.extents()};
        HostSystem::product<T>(of_host(a), of_host(b), out, write);
    }
};
static_assert(mor::cuda::System<CountingSystem>);

using Counting = mor::Cuda<double, CountingSystem>;

/// What act() copies to the host.
template <class Act>
Index copies_of(const Act& act) {
    const Index before = CountingSystem::Space::copies;
    act();
    return CountingSystem::Space::copies - before;
}

}  // namespace

// What a router keeps is counted on the way forward: how much work follows depends on it.
TEST_CASE_TEMPLATE(
    "after its forward passes a training step copies numbers to the host once or "
    "twice, at its end",
    A, mor::Vanilla, mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>,
    mor::MoRToken<mor::MiddleCycle>, ExpertAuxiliary, CyclePonder) {
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
    Index num_losses = 0;
    const Index whole = copies_of([&] { num_losses = std::ssize(trainer.step().losses); });
    CHECK(whole - micro_batches * forward == (num_losses > 0 ? 2 : 1));
}
