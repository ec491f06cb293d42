// SPDX-License-Identifier: Apache-2.0
//
// Attention of one new token for each of several sequences to 512 keys and values, at the shape of
// 135M: from one piece of memory a sequence, and from pages of several sizes in random places. The
// floor is reading all of them once.
#include "run.hpp"
#include <mor/backends/cpu/cpu.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;
namespace ops = mor::ops;

constexpr Index entries = 512;
constexpr mor::AttentionShape shape{.heads = 9, .kv_heads = 3, .head_dim = 64};
benchmarks::Roofline roofline;

/// Pages of state.range(1) entries; 0: none.
void attend(benchmark::State& state) {
    const Index sequences = state.range(0);
    const Index page = state.range(1);
    Cpu cpu;
    mor::Context<Cpu> context{cpu};
    const auto q = context.zero_matrix(sequences, 576);
    const auto out = context.matrix(sequences, 576);
    const auto logsumexp = context.matrix(sequences, 9);
    // Several caches in turn, as a model has one a layer: too many to stay in the processor's own.
    constexpr Index least_elements = 50'000'000;
    const Index layers = least_elements / (2 * sequences * entries * 192) + 1;
    const auto keys = context.zero_matrix(layers * sequences * entries, 192);
    const auto values = context.zero_matrix(layers * sequences * entries, 192);
    const auto begin = context.indices(sequences);
    const auto end = context.indices(sequences);
    for (Index s = 0; s < sequences; ++s) {
        begin[s] = s * entries;
        end[s] = (s + 1) * entries;
    }
    std::vector<Index> order(static_cast<std::size_t>(page == 0 ? 0 : sequences * entries / page));
    std::iota(order.begin(), order.end(), Index{0});
    mor::Random random{1};
    for (std::size_t i = order.size(); i > 1; --i) {
        std::swap(order[i - 1],
                  order[static_cast<std::size_t>(random.below(static_cast<Index>(i)))]);
    }
    const auto pages = context.indices(std::ssize(order));
    mor::from_host(pages, order);
    mor::KeyRanges<Cpu> ranges{begin, end, sequences * entries};
    if (page > 0) {
        ranges.blocks = pages;
        ranges.block_size = page;
    }
    Index layer = 0;
    for (auto _ : state) {
        const Index first = layer++ % layers * sequences * entries;
        ops::attention<Cpu>(context, shape, q, keys.slice(first, sequences * entries),
                            values.slice(first, sequences * entries), ranges, out, logsumexp);
    }
    benchmarks::report(state, roofline, 4.0 * static_cast<double>(sequences * entries * 576),
                       static_cast<double>(2 * sequences * entries * 192) * sizeof(float));
}
BENCHMARK(attend)
    ->ArgNames({"sequences", "page"})
    ->ArgsProduct({{1, 8, 32}, {0, 8, 16, 64}})
    ->Repetitions(5)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace

int main(int argc, char** argv) {
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    return benchmarks::run(argc, argv);
}
