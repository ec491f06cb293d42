// SPDX-License-Identifier: Apache-2.0
//
// Measures the kernels run by the processor: to try the program, not to know how fast they are.
#pragma once

#include <mor/backends/cuda/cuda_host.hpp>

namespace benchmarks {

using SystemUnderTest = mor::cuda::HostSystem;

}  // namespace benchmarks
