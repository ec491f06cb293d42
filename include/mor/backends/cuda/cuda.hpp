// SPDX-License-Identifier: Apache-2.0
//
// Cuda<T>: everything of the CUDA backend, for sources that nvcc compiles. See docs/cuda.md.
#pragma once

#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/backends/cuda/device_system.hpp>
#include <mor/backends/cuda/kernels.hpp>

#include <concepts>

namespace mor {

/// On the GPU, unless another system is named.
template <std::floating_point T, cuda::System S = cuda::DeviceSystem>
class Cuda;

}  // namespace mor
