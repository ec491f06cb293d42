// SPDX-License-Identifier: Apache-2.0
//
// The 16-bit number that weights are rounded to: a float without the last 16 bits of its mantissa.
#pragma once

#include <mor/config.hpp>

#include <bit>
#include <cstdint>

namespace mor {

/// The upper half of a float: 1 sign, 8 exponent and 7 mantissa bits.
struct BFloat16 {
    std::uint16_t bits;
};

/// Exact, NaN payloads included.
[[nodiscard]] constexpr float to_float(BFloat16 value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

namespace detail {

/// A float whose lower half is zero, as bits: the nearest, of two the even one. A NaN stays one.
[[nodiscard]] constexpr std::uint32_t round_to_upper_half(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
    const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    return (is_nan ? bits | 0x00400000U : rounded) & 0xFFFF0000U;
}

}  // namespace detail

/// The nearest, of two the one whose last bit is zero. A NaN stays one.
[[nodiscard]] constexpr BFloat16 to_bfloat16(float value) {
    return {static_cast<std::uint16_t>(detail::round_to_upper_half(value) >> 16)};
}

}  // namespace mor
