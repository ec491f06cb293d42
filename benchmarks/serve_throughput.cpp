// SPDX-License-Identifier: Apache-2.0
//
// Serving vanilla, recursive and MoR models of one shape: throughput, latency, occupancy and cache
// memory, with sequence-wise and depth-wise batching. Weights are random; a MoR token's depth is
// drawn from the balanced distribution, so that speed does not depend on training.
//
// usage: serve_throughput 135M|360M|narrow REQUESTS MEAN_TOKENS OUTPUT.json [MODEL]
// "narrow" has the layers of 135M and hardly any width: for what does not depend on the width,
// occupancy and memory, with as many requests as the paper's. With a MODEL, such as 'MoR 3', that
// one alone, for a profile.
#include "machine.hpp"
#include "serving_run.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace serving;

mor::ModelConfig narrow(mor::ModelConfig sizes) {
    sizes.vocab_size = 64;
    sizes.hidden_size = 16;
    sizes.intermediate_size = 16;
    sizes.num_heads = 1;
    sizes.num_kv_heads = 1;
    sizes.head_dim = 16;
    return sizes;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5 && argc != 6) {
        std::fprintf(stderr,
                     "usage: serve_throughput 135M|360M|narrow REQUESTS MEAN_TOKENS OUTPUT.json "
                     "[MODEL]\n");
        return 2;
    }
    const std::string shape = argv[1];
    const bool is_narrow = shape == "narrow";
    mor::ModelConfig sizes = is_narrow ? narrow(sizes_of("135M")) : sizes_of(shape);
    const Index requests = std::atol(argv[2]);
    const double mean = std::atof(argv[3]);
    mor::Random random{1};
    Setting setting;
    setting.block_size =
        is_narrow ? 8 : 4;  // as answers are shorter than the paper's, so are blocks
    setting.max_prefixes = is_narrow ? 0 : setting.max_prefixes;  // memory of the running alone
    setting.draw_lengths(requests, mean, random);
    for (Index i = 0; i < requests; ++i) {
        setting.prompts.push_back({static_cast<mor::TokenId>(i % sizes.vocab_size)});
    }
    sizes.max_positions = setting.longest() + 2;
    // What 40 of vanilla's sequences store when each is half way.
    const auto bytes =
        is_narrow ? 0
                  : static_cast<Index>(40 * 0.5 * mean * static_cast<double>(sizes.num_layers) *
                                       layer_bytes(sizes));
    Cpu cpu;
    std::vector<Line> lines;
    const auto add = [&]<class A>(A, const std::string& name, Index num_recursions) {
        if (argc == 5 || name == argv[5]) {
            const Shape<A> of{sizes, num_recursions};
            add_lines<A>(std::make_shared<const mor::Model<A, Cpu>>(cpu, of.sizes, of.options, 1),
                         setting, name, bytes, lines);
        }
    };
    add(mor::Vanilla{}, "vanilla", 1);
    add(mor::Recursive<>{}, "recursive 3", 3);
    for (const Index num_recursions : {2, 3, 4}) {
        add(BalancedMoR{}, "MoR " + std::to_string(num_recursions), num_recursions);
    }
    mor::check<mor::ConfigError>(!lines.empty(), "no model ", argv[argc - 1]);
    const int repetitions = is_narrow ? 1 : 3;
    std::string command = "serve_throughput";
    for (int i = 1; i < 4; ++i) {
        command += std::string{" "} + argv[i];
    }
    const Json report{{"command", command},
                      {"machine", benchmarks::machine()},
                      {"shape", shape},
                      {"requests", requests},
                      {"mean_tokens", mean},
                      {"block_size", setting.block_size},
                      {"repetitions", repetitions},
                      {"rows", measure(lines, repetitions)}};
    std::ofstream{argv[4]} << report.dump(1) << '\n';
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "serve_throughput: %s\n", error.what());
    return 1;
}
