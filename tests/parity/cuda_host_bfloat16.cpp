// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/backends/cuda/cuda_host.hpp>

void parity::run_on_cuda_host_bfloat16(const Case& reference, Comparison& comparison) {
    mor::Cuda<float, mor::cuda::BFloat16Products<mor::cuda::HostSystem>> backend;
    run_on(backend, reference, comparison);
}
