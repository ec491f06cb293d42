// SPDX-License-Identifier: Apache-2.0
//
// What a measurement ran on, for its JSON file.
#pragma once

#include <mor/backends/cpu/eigen.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <thread>

namespace benchmarks {

[[nodiscard]] inline nlohmann::ordered_json machine() {
    std::string cpu = "unknown";
    std::ifstream info{"/proc/cpuinfo"};
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("model name")) {
            cpu = line.substr(line.find(':') + 2);
            break;
        }
    }
    return {{"cpu", cpu},
            {"hardware_threads", std::thread::hardware_concurrency()},
            {"compiler", __VERSION__},
            {"flags", MOR_BENCHMARK_FLAGS},
            {"vector_instructions", Eigen::SimdInstructionSetsInUse()}};
}

}  // namespace benchmarks
