// SPDX-License-Identifier: Apache-2.0
//
// The tests of the backends on the GPU.
#pragma once

#include <mor/backends/cuda/cuda.hpp>

#include <tuple>
#include <type_traits>

namespace backend_tests {

/// Every test runs once for each of these.
using BackendsUnderTest =
    std::tuple<mor::Cuda<float>, mor::Cuda<double>,
               mor::Cuda<float, mor::cuda::BFloat16Products<mor::cuda::DeviceSystem>>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors =
    std::is_same_v<typename B::System, mor::cuda::BFloat16Products<mor::cuda::DeviceSystem>>;

}  // namespace backend_tests
