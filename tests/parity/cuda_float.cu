// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "runs_under_test.hpp"
#include <mor/backends/cuda/cuda.hpp>

void parity::run_on_cuda_float(const Case& reference, Comparison& comparison) {
    mor::Cuda<float> backend;
    run_on(backend, reference, comparison);
}
