// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "runs_under_test.hpp"
#include <mor/backends/cuda/cuda.hpp>

void parity::run_on_cuda_bfloat16(const Case& reference, Comparison& comparison) {
    mor::Cuda<float, mor::cuda::BFloat16Products<mor::cuda::DeviceSystem>> backend;
    run_on(backend, reference, comparison);
}
