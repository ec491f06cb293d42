// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"
#include "stopwatch.hpp"
#include <mor/backends/cuda/cuda.hpp>
#include <mor/ops/copy.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cuda_runtime_api.h>
#include <string>

namespace {

using Backend = mor::Cuda<float>;

/// The fastest of some calls, in seconds.
template <class Function>
double fastest(Function&& function) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    for (int i = 0; i < 10; ++i) {
        benchmarks::wait_for<Backend>();
        const auto start = Clock::now();
        function();
        benchmarks::wait_for<Backend>();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

/// By the driver's copy and by ours; the faster counts.
double copied_bytes_per_second() {
    constexpr mor::Index count = mor::Index{1} << 29;
    const mor::Tensor<float, 1, Backend::Space> from{{count}};
    mor::Tensor<float, 1, Backend::Space> to{{count}};
    Backend backend;
    mor::Context<Backend> context{backend};
    const double ours = fastest([&] {
        mor::ops::copy<Backend>(context, {from.view().data(), {count / 1'024, 1'024}},
                                {to.view().data(), {count / 1'024, 1'024}});
    });
    const double drivers = fastest([&] {
        mor::cuda::expect_success(
            cudaMemcpyAsync(to.view().data(), from.view().data(), from.size_bytes(),
                            cudaMemcpyDeviceToDevice, mor::cuda::detail::Device::get().stream()),
            "cudaMemcpyAsync");
    });
    return 2.0 * static_cast<double>(from.size_bytes()) / std::min(ours, drivers);
}

}  // namespace

benchmarks::Machine benchmarks::machine_under_test() {
    const mor::cuda::DeviceSystem system;  // finds the GPU, or throws
    int driver = 0;
    int runtime = 0;
    std::size_t free = 0;
    std::size_t total = 0;
    mor::cuda::expect_success(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    mor::cuda::expect_success(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    mor::cuda::expect_success(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return {.device = std::string{system.device_name()},
            .driver = "for CUDA " + mor::cuda::detail::version_text(driver),
            .toolkit = "CUDA " + mor::cuda::detail::version_text(runtime),
            .memory_bytes = static_cast<double>(total),
            .copied_bytes_per_second = copied_bytes_per_second()};
}
