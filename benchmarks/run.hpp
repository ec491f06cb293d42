// SPDX-License-Identifier: Apache-2.0
//
// The main function of benchmarks: what they ran on, and this machine's limits, go into the report.
#pragma once

#include "machine.hpp"
#include "roofline.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <string>

namespace benchmarks {

/// Measures a roofline with so many threads, for the report and for `report`.
[[nodiscard]] inline Roofline add_roofline(Index threads) {
    const Roofline roofline = measure_roofline(mor::Cpu<float>{{.threads = threads}});
    const std::string name = "roofline_" + std::to_string(threads) + "_threads_";
    benchmark::AddCustomContext(name + "gflops", std::to_string(roofline.flops / 1e9));
    benchmark::AddCustomContext(name + "bfloat16_gflops",
                                std::to_string(roofline.bfloat16_flops / 1e9));
    benchmark::AddCustomContext(name + "memory_gbytes", std::to_string(roofline.bytes / 1e9));
    for (std::size_t level = 0; level < roofline.cached_bytes.size(); ++level) {
        benchmark::AddCustomContext(name + "l" + std::to_string(level + 1) + "_gbytes",
                                    std::to_string(roofline.cached_bytes[level] / 1e9));
    }
    return roofline;
}

/// Runs what is registered; returns what main returns.
inline int run(int argc, char** argv) {
    const auto facts = machine();
    for (const auto& [key, value] : facts.items()) {
        benchmark::AddCustomContext(key,
                                    value.is_string() ? value.get<std::string>() : value.dump());
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 1;
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}

}  // namespace benchmarks
