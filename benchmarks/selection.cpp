// SPDX-License-Identifier: Apache-2.0
//
// The routing primitives alone: choosing two thirds of the rows of 32 sequences, ascending, by
// several algorithms; and moving rows, beside copying as many bytes.
#include "run.hpp"
#include "selection_algorithms.hpp"
#include <mor/backends/cpu/cpu.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

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

/// Bytes are those of the scores and of the rows' numbers; there are no floating-point operations.
void finish(benchmark::State& state, const Scores& s) {
    state.SetBytesProcessed(state.iterations() *
                            (s.scores.size() * static_cast<Index>(sizeof(float)) +
                             sequences * s.most * static_cast<Index>(sizeof(Index))));
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
    finish(state, s);
}

/// Chooses for each sequence by itself.
template <class Algorithm>
void each_sequence(benchmark::State& state) {
    Scores s{state.range(0)};
    Algorithm choose;
    for (auto _ : state) {
        for (Index i = 0; i < sequences; ++i) {
            const auto scores = s.scores.slice(s.offsets[i], s.length);
            choose({scores.data(), static_cast<std::size_t>(scores.size())},
                   s.kept.data() + i * s.most, s.most);
        }
        benchmark::ClobberMemory();
    }
    finish(state, s);
}

template <class Algorithm>
void add_algorithm() {
    benchmark::RegisterBenchmark(std::string{Algorithm::name}.c_str(), each_sequence<Algorithm>)
        ->ArgName("rows")
        ->Arg(1'024)
        ->Arg(2'048)
        ->Arg(8'192);
}

BENCHMARK(ours)
    ->Name("mor")
    ->ArgNames({"rows", "threads"})
    ->ArgsProduct({{1'024, 2'048, 8'192}, {1, 2}})
    ->UseRealTime();

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

int main(int argc, char** argv) {
    add_algorithm<benchmarks::NthElementOfValues>();
    add_algorithm<benchmarks::NthElementOfIndices>();
    add_algorithm<benchmarks::PartialSortOfIndices>();
    return benchmarks::run(argc, argv);
}
