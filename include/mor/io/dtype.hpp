// SPDX-License-Identifier: Apache-2.0
//
// The element types of tensors in files. They are wider than what backends compute with: a
// checkpoint may hold half precision, a program converts it when it reads.
#pragma once

#include <mor/core/bfloat16.hpp>
#include <mor/core/types.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace mor::io {

enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, u16, u32, u64, boolean };

/// Every DType, in the order of declaration.
[[nodiscard]] constexpr std::array<DType, 13> enum_values(DType) {
    return {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,    DType::i16,
            DType::i8,  DType::u8,  DType::u16, DType::u32,  DType::u64, DType::boolean};
}

/// The name in a safetensors header, for example "BF16".
[[nodiscard]] constexpr std::string_view to_string(DType dtype) {
    constexpr std::array<std::string_view, 13> names{
        "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL"};
    return names[static_cast<std::size_t>(dtype)];
}

/// The DType of a safetensors name; none if it is unknown.
[[nodiscard]] constexpr std::optional<DType> dtype_from_name(std::string_view name) {
    for (const DType dtype : enum_values(DType{})) {
        if (to_string(dtype) == name) {
            return dtype;
        }
    }
    return std::nullopt;
}

/// IEEE 754 half precision as it is stored: 1 sign, 5 exponent and 10 mantissa bits.
struct F16 {
    std::uint16_t bits = 0;
};

/// Exact, NaN payloads included.
[[nodiscard]] constexpr float to_float(F16 value) {
    const std::uint32_t sign = (value.bits & 0x8000U) << 16;
    const std::uint32_t exponent = (value.bits >> 10) & 0x1FU;
    const std::uint32_t mantissa = value.bits & 0x3FFU;
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
        const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
    }
    // A float's exponent bias is 127, a half's is 15; all ones mean infinity or NaN in both.
    const std::uint32_t widened = exponent == 0x1F ? 0xFFU : exponent + (127 - 15);
    return std::bit_cast<float>(sign | (widened << 23) | (mantissa << 13));
}

/// Calls `visitor(std::type_identity<T>{})` with the C++ type that a DType is stored as.
template <class Visitor>
constexpr decltype(auto) visit_dtype(DType dtype, Visitor&& visitor) {
    switch (dtype) {
        case DType::f64:
            return visitor(std::type_identity<double>{});
        case DType::f32:
            return visitor(std::type_identity<float>{});
        case DType::f16:
            return visitor(std::type_identity<F16>{});
        case DType::bf16:
            return visitor(std::type_identity<BFloat16>{});
        case DType::i64:
            return visitor(std::type_identity<std::int64_t>{});
        case DType::i32:
            return visitor(std::type_identity<std::int32_t>{});
        case DType::i16:
            return visitor(std::type_identity<std::int16_t>{});
        case DType::i8:
            return visitor(std::type_identity<std::int8_t>{});
        case DType::u8:
            return visitor(std::type_identity<std::uint8_t>{});
        case DType::u16:
            return visitor(std::type_identity<std::uint16_t>{});
        case DType::u32:
            return visitor(std::type_identity<std::uint32_t>{});
        case DType::u64:
            return visitor(std::type_identity<std::uint64_t>{});
        case DType::boolean:
            break;
    }
    return visitor(std::type_identity<bool>{});
}

/// Bytes of one element.
[[nodiscard]] constexpr Index size_bytes(DType dtype) {
    return visit_dtype(
        dtype, [](auto type) { return static_cast<Index>(sizeof(typename decltype(type)::type)); });
}

/// The DType that a C++ type is stored as, for example dtype_of<float> == DType::f32.
template <class T>
inline constexpr DType dtype_of = [] {
    for (const DType dtype : enum_values(DType{})) {
        const bool found = visit_dtype(
            dtype, [](auto type) { return std::is_same_v<T, typename decltype(type)::type>; });
        if (found) {
            return dtype;
        }
    }
    throw "mor: no DType stores this type";  // not a constant expression: a compile error
}();

}  // namespace mor::io
