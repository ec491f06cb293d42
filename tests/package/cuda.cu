// SPDX-License-Identifier: Apache-2.0
//
// A kernel of somebody else on the GPU; without one, the library's word for it.
#include <mor/backends/cuda/device_system.hpp>
#include <mor/core/tensor.hpp>

#include <cstdio>
#include <vector>

int main() {
    try {
        const mor::cuda::DeviceSystem system;
        mor::Tensor<float, 1, mor::cuda::DeviceSpace> tensor{{3}};
        const auto x = tensor.view();
        system.for_each(3, [=] MOR_KERNEL(mor::Index i) { mor::cuda::in_kernel(x)[i] += 1; });
        std::puts(to_host(x) == std::vector<float>(3, 1) ? "counted" : "miscounted");
    } catch (const mor::DeviceError& error) {
        std::puts(error.what());
    }
    return 0;
}
