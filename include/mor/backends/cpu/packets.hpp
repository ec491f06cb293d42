// SPDX-License-Identifier: Apache-2.0
//
// Eigen's packets, the portable vector registers behind the hand-written kernels.
#pragma once

#include <mor/backends/cpu/eigen.hpp>
#include <mor/core/types.hpp>

namespace mor::cpu::detail {

template <class T>
using Packet = typename Eigen::internal::packet_traits<T>::type;
/// A packet as an element of an array: by itself it would lose its attributes.
template <class T>
struct Lanes {
    Packet<T> packet;
};
template <class T>
inline constexpr Index packet_size = Eigen::internal::packet_traits<T>::size;

// A packet as a template argument loses its attributes, which matters to nobody here.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif
/// As many packets as each has elements.
template <class T>
struct PacketSquare {
    Eigen::internal::PacketBlock<Packet<T>, static_cast<int>(packet_size<T>)> block;

    Packet<T>& operator[](Index i) { return block.packet[i]; }
    void transpose() { Eigen::internal::ptranspose(block); }
};
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

inline constexpr Index num_registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;
#ifdef EIGEN_VECTORIZE_FMA
inline constexpr bool fuses_multiply_add = true;
#else
inline constexpr bool fuses_multiply_add = false;
#endif

}  // namespace mor::cpu::detail
