// SPDX-License-Identifier: Apache-2.0
//
// The routing primitives alone: choosing two thirds of the rows of 32 sequences, ascending, by
// several algorithms; and moving rows, beside copying as many bytes.
#include "run.hpp"
#include <mor/backends/cpu/cpu.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;
namespace ops = mor::ops;

constexpr Index sequences = 32;

/// Scores of 32 sequences of state.range(0) rows.
struct Scores {
    explicit Scores(Index rows, Index threads = 1)
        : cpu{{.threads = threads}}, length{rows}, most{rows * 2 / 3} {
        mor::Random random{1};
        for (Index i = 0; i < scores.size(); ++i) {
            scores[i] = static_cast<float>(random.normal());
        }
        offsets[0] = 0;
        for (Index s = 0; s < sequences; ++s) {
            offsets[s + 1] = offsets[s] + length;
            k[s] = most;
        }
    }

    Cpu cpu;
    mor::Context<Cpu> context{cpu};
    Index length;
    Index most;
    mor::VectorView<Cpu> scores = context.vector(sequences * length);
    mor::IndexView<Cpu> offsets = context.indices(sequences + 1);
    mor::IndexView<Cpu> k = context.indices(sequences);
    mor::IndexView<Cpu> kept = context.indices(sequences * length);
};

void finish(benchmark::State& state) {
    state.counters["us_per_sequence"] =
        benchmark::Counter(1e-6 * static_cast<double>(sequences * state.iterations()),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void ours(benchmark::State& state) {
    Scores s{state.range(0), state.range(1)};
    for (auto _ : state) {
        benchmark::DoNotOptimize(ops::top_k<Cpu>(s.context, s.scores, s.offsets, s.k, s.kept));
        benchmark::ClobberMemory();
    }
    finish(state);
}

/// Runs choose(scores, kept) for each sequence.
template <class Choose>
void each_sequence(benchmark::State& state, Choose&& choose) {
    Scores s{state.range(0)};
    for (auto _ : state) {
        for (Index i = 0; i < sequences; ++i) {
            choose(s.scores.slice(s.offsets[i], s.length), s.kept.data() + i * s.most, s.most);
        }
        benchmark::ClobberMemory();
    }
    finish(state);
}

/// The k-th largest value by partition, then a pass that keeps what reaches it.
void nth_element_of_values(benchmark::State& state) {
    std::vector<float> values;
    each_sequence(state, [&](auto scores, Index* kept, Index most) {
        values.assign(scores.data(), scores.data() + scores.size());
        std::nth_element(values.begin(), values.begin() + (most - 1), values.end(),
                         std::greater<>{});
        const float bound = values[static_cast<std::size_t>(most - 1)];
        for (Index i = 0; i < scores.size(); ++i) {
            if (scores[i] >= bound) {
                *kept++ = i;
            }
        }
    });
}

/// Indices by partition, then sorted.
void nth_element_of_indices(benchmark::State& state) {
    std::vector<Index> order;
    each_sequence(state, [&](auto scores, Index* kept, Index most) {
        order.resize(static_cast<std::size_t>(scores.size()));
        std::iota(order.begin(), order.end(), Index{0});
        std::nth_element(order.begin(), order.begin() + (most - 1), order.end(),
                         [&](Index a, Index b) { return scores[a] > scores[b]; });
        std::sort(order.begin(), order.begin() + most);
        std::copy_n(order.begin(), most, kept);
    });
}

void partial_sort_of_indices(benchmark::State& state) {
    std::vector<Index> order;
    each_sequence(state, [&](auto scores, Index* kept, Index most) {
        order.resize(static_cast<std::size_t>(scores.size()));
        std::iota(order.begin(), order.end(), Index{0});
        std::partial_sort(order.begin(), order.begin() + most, order.end(),
                          [&](Index a, Index b) { return scores[a] > scores[b]; });
        std::sort(order.begin(), order.begin() + most);
        std::copy_n(order.begin(), most, kept);
    });
}

BENCHMARK(ours)
    ->Name("mor")
    ->ArgNames({"rows", "threads"})
    ->ArgsProduct({{1'024, 2'048, 8'192}, {1, 2}})
    ->UseRealTime();
BENCHMARK(nth_element_of_values)->ArgName("rows")->Arg(1'024)->Arg(2'048)->Arg(8'192);
BENCHMARK(nth_element_of_indices)->ArgName("rows")->Arg(1'024)->Arg(2'048)->Arg(8'192);
BENCHMARK(partial_sort_of_indices)->ArgName("rows")->Arg(1'024)->Arg(2'048)->Arg(8'192);

/// Two thirds of [rows, 576], every third left out, and a copy of as many bytes.
struct Movement {
    explicit Movement(benchmark::State& state)
        : cpu{{.threads = state.range(1)}},
          x{context.zero_matrix(state.range(0), 576)},
          part{context.zero_matrix(state.range(0) * 2 / 3, 576)},
          which{context.indices(part.rows())} {
        for (Index i = 0; i < which.size(); ++i) {
            which[i] = i + i / 2;
        }
    }
    Cpu cpu;
    mor::Context<Cpu> context{cpu};
    mor::MatrixView<Cpu> x;
    mor::MatrixView<Cpu> part;
    mor::IndexView<Cpu> which;
};

template <class Move>
void time_movement(benchmark::State& state, Move&& move) {
    Movement m{state};
    for (auto _ : state) {
        move(m);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * 2 * m.part.size() *
                            static_cast<Index>(sizeof(float)));
}
void gather(benchmark::State& state) {
    time_movement(state,
                  [](Movement& m) { ops::gather_rows<Cpu>(m.context, m.x, m.which, m.part); });
}
void scatter(benchmark::State& state) {
    time_movement(state,
                  [](Movement& m) { ops::scatter_rows<Cpu>(m.context, m.part, m.which, m.x); });
}
void copy(benchmark::State& state) {
    time_movement(state, [](Movement& m) {
        m.cpu.parallel_for(m.part.rows(), 28, [&](Index first, Index last) {
            std::memcpy(m.x.row(first).data(), m.part.row(first).data(),
                        static_cast<std::size_t>((last - first) * 576) * sizeof(float));
        });
    });
}
/// Rows that follow each other, each on its own. A copy of all of them at once writes past the
/// caches where they are too small; whoever reads the rows next would wait for memory.
void copy_by_rows(benchmark::State& state) {
    time_movement(state, [](Movement& m) {
        m.cpu.parallel_for(m.part.rows(), 28, [&](Index first, Index last) {
            for (Index row = first; row < last; ++row) {
                std::copy_n(m.part.row(row).data(), 576, m.x.row(row).data());
            }
        });
    });
}
void movements(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"rows", "threads"})
        ->ArgsProduct({{256, 1'024, 8'192, 65'536}, {1, 2}})
        ->UseRealTime();
}
BENCHMARK(gather)->Apply(movements);
BENCHMARK(scatter)->Apply(movements);
BENCHMARK(copy)->Apply(movements);
BENCHMARK(copy_by_rows)->Apply(movements);

}  // namespace

int main(int argc, char** argv) { return benchmarks::run(argc, argv); }
