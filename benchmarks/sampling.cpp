// SPDX-License-Identifier: Apache-2.0
//
// Time to draw one token from 49,152 logits, normally distributed: of deviation 1, where thousands
// of tokens share the probability, and of deviation 4, where few do. A serving engine pays it on
// one thread for every token of every request.
#include "run.hpp"
#include <mor/generate/sampler.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <span>
#include <vector>

namespace {

constexpr std::size_t vocabulary = 49'152;

void draw(benchmark::State& state, const mor::SamplingOptions& options) {
    mor::Random random{1};
    // Several rows in turn, as a sampler never sees a row twice.
    std::vector<std::vector<float>> rows(8, std::vector<float>(vocabulary));
    for (std::vector<float>& row : rows) {
        for (float& logit : row) {
            logit = static_cast<float>(random.normal() * static_cast<double>(state.range(0)));
        }
    }
    std::vector<mor::TokenId> earlier(512);
    for (mor::TokenId& token : earlier) {
        token = static_cast<mor::TokenId>(random.below(mor::Index{vocabulary}));
    }
    mor::Sampler sampler{options};
    std::size_t next = 0;
    for (auto _ : state) {
        const std::vector<float>& row = rows[next++ % rows.size()];
        benchmark::DoNotOptimize(
            sampler.sample(std::span<const float>{row}, std::span<const mor::TokenId>{earlier}));
    }
}

void add(const char* name, const mor::SamplingOptions& options) {
    benchmark::RegisterBenchmark(name, draw, options)
        ->ArgName("deviation")
        ->Arg(1)
        ->Arg(4)
        ->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
    add("greedy", {.temperature = 0});
    add("temperature_1", {});
    add("top_k_40_top_p_0.9", {.top_k = 40, .top_p = 0.9});
    add("top_k_5000", {.top_k = 5'000});
    add("top_p_0.9", {.top_p = 0.9});
    add("min_p_0.05", {.min_p = 0.05});
    add("repetition_penalty_1.1", {.repetition_penalty = 1.1});
    add("repetition_penalty_1.1_greedy", {.temperature = 0, .repetition_penalty = 1.1});
    return benchmarks::run(argc, argv);
}
