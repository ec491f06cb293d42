// SPDX-License-Identifier: Apache-2.0
//
// The tests of this folder on the kernels of the CUDA backend, run by the processor in graphs.
#pragma once

#include "queued_system.hpp"
#include <mor/backends/cuda/cuda_host.hpp>

#include <tuple>

namespace backend_tests {

/// Every test of this folder runs once for each of these.
using BackendsUnderTest =
    std::tuple<mor::Cuda<float, QueuedSystem>, mor::Cuda<double, QueuedSystem>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = false;

}  // namespace backend_tests
