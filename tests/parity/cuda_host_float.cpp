// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/cuda/cuda_host.hpp>

void parity::run_on_cuda_host_float(const Case& reference, Comparison& comparison) {
    mor::Cuda<float, mor::cuda::HostSystem> backend;
    run_on(backend, reference, comparison);
}
