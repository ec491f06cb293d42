// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/backends/cuda/cuda_host.hpp>

#include <cuda/float_activations.hpp>

void parity::run_on_cuda_host_float_activations(const Case& reference, Comparison& comparison) {
    using Products = mor::cuda::BFloat16Products<mor::cuda::HostSystem>;
    mor::Cuda<float, mor::test::FloatActivationsSystem<Products>> backend;
    run_on(backend, reference, comparison);
}
