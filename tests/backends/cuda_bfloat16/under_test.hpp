// SPDX-License-Identifier: Apache-2.0
//
// The tests of products on those of 16-bit factors of the CUDA backend, run by the processor.
#pragma once

#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/backends/cuda/cuda_host.hpp>

#include <tuple>

namespace backend_tests {

/// Every test of this folder runs once for each of these.
using BackendsUnderTest =
    std::tuple<mor::Cuda<float, mor::cuda::BFloat16Products<mor::cuda::HostSystem>>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = true;

}  // namespace backend_tests
