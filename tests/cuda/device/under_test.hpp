// SPDX-License-Identifier: Apache-2.0
//
// The tests of the backends on the GPU.
#pragma once

#include <mor/backends/cuda/cuda.hpp>

#include <tuple>

namespace backend_tests {

/// Every test runs once for each of these.
using BackendsUnderTest = std::tuple<mor::Cuda<float>, mor::Cuda<double>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = false;

}  // namespace backend_tests
