// SPDX-License-Identifier: Apache-2.0
//
// The tests of products on those of 16-bit factors on the GPU.
#pragma once

#include <mor/backends/cuda/cuda.hpp>

#include <tuple>

namespace backend_tests {

/// Every test runs once for each of these.
using BackendsUnderTest =
    std::tuple<mor::Cuda<float, mor::cuda::BFloat16Products<mor::cuda::DeviceSystem>>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = true;

}  // namespace backend_tests
