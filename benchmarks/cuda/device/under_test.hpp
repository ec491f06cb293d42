// SPDX-License-Identifier: Apache-2.0
//
// Measures the kernels on the GPU.
#pragma once

#include <mor/backends/cuda/cuda.hpp>

namespace benchmarks {

using SystemUnderTest = mor::cuda::DeviceSystem;

}  // namespace benchmarks
