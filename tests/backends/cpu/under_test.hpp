// SPDX-License-Identifier: Apache-2.0
//
// The tests of this folder on the backends in host memory.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>
#include <mor/core/bfloat16.hpp>

#include <tuple>
#include <type_traits>

namespace backend_tests {

/// Every test of this folder runs once for each of these.
using BackendsUnderTest = std::tuple<mor::Reference<float>, mor::Cpu<float>, mor::Cpu<double>,
                                     mor::Cpu<float, mor::BFloat16>>;

/// Whether products of B round their factors. The numbers of these tests then are rounded before,
/// so that products of them are as exact as any other.
template <class B>
inline constexpr bool rounds_factors = std::is_same_v<B, mor::Cpu<float, mor::BFloat16>>;

}  // namespace backend_tests
