// SPDX-License-Identifier: Apache-2.0
//
// The tests of products on those of 16-bit factors of the CUDA backend, run by teams of threads.
#pragma once

#include "backends/cuda_threads/threaded_system.hpp"
#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/backends/cuda/cuda_host.hpp>

#include <tuple>

namespace backend_tests {

/// Every test of this folder runs once for each of these.
using BackendsUnderTest = std::tuple<mor::Cuda<float, mor::cuda::BFloat16Products<ThreadedSystem>>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = true;

}  // namespace backend_tests
