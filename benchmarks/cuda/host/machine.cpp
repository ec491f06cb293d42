// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include <mor/backends/cuda/cuda_host.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

benchmarks::Machine benchmarks::machine_under_test() {
    using Clock = std::chrono::steady_clock;
    const std::vector<char> from(std::size_t{1} << 26, 1);
    std::vector<char> to(from.size());
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
        const auto start = Clock::now();
        std::memcpy(to.data(), from.data(), from.size());
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return {.device = std::string{mor::cuda::HostSystem::name},
            .driver = "none",
            .toolkit = "none",
            .memory_bytes = 0,
            .copied_bytes_per_second = 2.0 * static_cast<double>(to.size()) / best};
}
