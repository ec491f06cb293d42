// SPDX-License-Identifier: Apache-2.0
//
// What the factors of a product are while it is computed: how panels and left factors hold them,
// and how registers of them multiply. Sums are always in the element type of the backend.
#pragma once

#include <mor/backends/cpu/packets.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace mor::cpu {

/// What products of Elements may round their factors to: nothing, or float to BFloat16.
template <class Factor, class Element>
concept ProductFactor = std::same_as<Factor, Element> ||
                        (std::same_as<Factor, BFloat16> && std::same_as<Element, float>);

namespace detail {

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

/// Factors of the same type as sums. `Packets` is the width of a panel.
template <class T, Index Packets>
struct ExactFactors {
    using Sum = T;
    using Stored = T;
    static constexpr Index packets = Packets;
    /// So many depths lie side by side, column by column, and are multiplied at once.
    static constexpr Index group = 1;

    static Stored round(T value) { return value; }
    /// The next `group` depths of some columns, depth after depth, as they lie in a panel.
    static void store(const T* values, Index /*stride*/, Index columns, Stored* out) {
        std::copy_n(values, columns, out);
    }
    static Lanes<T> load(const Stored* columns) {
        return {Eigen::internal::pload<Packet<T>>(columns)};
    }
    static Lanes<T> broadcast(const Stored* depth) {
        return {Eigen::internal::pset1<Packet<T>>(*depth)};
    }
    static Lanes<T> multiply_add(Lanes<T> left, Lanes<T> right, Lanes<T> sum) {
        return {Eigen::internal::pmadd(left.packet, right.packet, sum.packet)};
    }
};

/// Factors rounded to BFloat16 and made floats again: for processors that do not multiply them.
template <Index Packets>
struct WidenedFactors {
    using Sum = float;
    using Stored = BFloat16;
    static constexpr Index packets = Packets;
    static constexpr Index group = 1;

    static Stored round(float value) { return to_bfloat16(value); }
    static void store(const float* values, Index /*stride*/, Index columns, Stored* out) {
        for (Index i = 0; i < columns; ++i) {
            out[i] = to_bfloat16(values[i]);
        }
    }
    static Lanes<float> load(const Stored* columns) {
        alignas(64) std::array<float, static_cast<std::size_t>(packet_size<float>)> wide;
        for (std::size_t i = 0; i < wide.size(); ++i) {
            wide[i] = to_float(columns[i]);
        }
        return {Eigen::internal::pload<Packet<float>>(wide.data())};
    }
    static Lanes<float> broadcast(const Stored* depth) {
        return {Eigen::internal::pset1<Packet<float>>(to_float(*depth))};
    }
    static Lanes<float> multiply_add(Lanes<float> left, Lanes<float> right, Lanes<float> sum) {
        return ExactFactors<float, Packets>::multiply_add(left, right, sum);
    }
};

#if defined(__AVX512BF16__)
/// Factors rounded to BFloat16, multiplied in pairs of depths by an instruction of their own, which
/// adds both products to a float.
template <Index Packets>
struct PairedFactors {
    using Sum = float;
    using Stored = BFloat16;
    static constexpr Index packets = Packets;
    static constexpr Index group = 2;

    struct Pairs {
        __m512i bits;
    };
    static Stored round(float value) { return to_bfloat16(value); }
    static void store(const float* values, Index stride, Index columns, Stored* out) {
        for (Index i = 0; i < columns; ++i) {
            const std::uint32_t pair = mor::detail::round_to_upper_half(values[i]) >> 16 |
                                       mor::detail::round_to_upper_half(values[stride + i]);
            std::memcpy(out + 2 * i, &pair, sizeof(pair));
        }
    }
    static Pairs load(const Stored* columns) { return {_mm512_load_si512(columns)}; }
    static Pairs broadcast(const Stored* depths) {
        std::int32_t pair = 0;
        std::memcpy(&pair, depths, sizeof(pair));
        return {_mm512_set1_epi32(pair)};
    }
    static Lanes<float> multiply_add(Pairs left, Pairs right, Lanes<float> sum) {
        return {_mm512_dpbf16_ps(sum.packet, std::bit_cast<__m512bh>(left.bits),
                                 std::bit_cast<__m512bh>(right.bits))};
    }
};
template <Index Packets>
using BFloat16Factors = PairedFactors<Packets>;
#else
template <Index Packets>
using BFloat16Factors = WidenedFactors<Packets>;
#endif

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/// The best that this processor has for products of a backend.
template <class Element, class Factor, Index Packets>
using FactorsOf = std::conditional_t<std::same_as<Factor, Element>, ExactFactors<Element, Packets>,
                                     BFloat16Factors<Packets>>;

}  // namespace detail
}  // namespace mor::cpu
