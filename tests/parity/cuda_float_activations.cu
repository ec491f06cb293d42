// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "runs_under_test.hpp"
#include <mor/backends/cuda/cuda.hpp>

#include <cuda/float_activations.hpp>

void parity::run_on_cuda_float_activations(const Case& reference, Comparison& comparison) {
    using Products = mor::cuda::BFloat16Products<mor::cuda::DeviceSystem>;
    mor::Cuda<float, mor::test::FloatActivationsSystem<Products>> backend;
    run_on(backend, reference, comparison);
}
