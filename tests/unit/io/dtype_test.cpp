// SPDX-License-Identifier: Apache-2.0

#include <mor/io/dtype.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

using mor::BFloat16;
using mor::io::DType;
using mor::io::F16;
using mor::io::to_float;

static_assert(mor::io::dtype_of<float> == DType::f32);
static_assert(mor::io::dtype_of<std::int64_t> == DType::i64);
static_assert(mor::io::dtype_of<BFloat16> == DType::bf16);
static_assert(mor::io::size_bytes(DType::f64) == 8);
static_assert(mor::io::size_bytes(DType::bf16) == 2);
static_assert(mor::io::size_bytes(DType::boolean) == 1);

TEST_CASE("every dtype is found by its name") {
    for (const DType dtype : mor::io::enum_values(DType{})) {
        CHECK(mor::io::dtype_from_name(to_string(dtype)) == dtype);
    }
    CHECK(to_string(DType::bf16) == "BF16");
    CHECK(to_string(DType::boolean) == "BOOL");
    CHECK_FALSE(mor::io::dtype_from_name("F8_E4M3").has_value());
    CHECK_FALSE(mor::io::dtype_from_name("f32").has_value());
}

TEST_CASE("half precision is converted exactly") {
    CHECK(to_float(F16{0x3C00}) == 1.0F);
    CHECK(to_float(F16{0xC000}) == -2.0F);
    CHECK(to_float(F16{0x7BFF}) == 65504.0F);
    CHECK(to_float(F16{0x0001}) == 0x1.0p-24F);
    CHECK(to_float(F16{0x03FF}) == 1023 * 0x1.0p-24F);
    CHECK(to_float(F16{0x0400}) == 0x1.0p-14F);
    CHECK(to_float(F16{0x3555}) == 0.333251953125F);
    CHECK(to_float(F16{0x7C00}) == std::numeric_limits<float>::infinity());
    CHECK(to_float(F16{0xFC00}) == -std::numeric_limits<float>::infinity());
    CHECK(std::isnan(to_float(F16{0x7E01})));
    CHECK(to_float(F16{0x8000}) == 0.0F);
    CHECK(std::signbit(to_float(F16{0x8000})));
}

TEST_CASE("every finite half lies between its neighbours") {
    float previous = to_float(F16{0});
    for (std::uint16_t bits = 1; bits < 0x7C00; ++bits) {
        const float value = to_float(F16{bits});
        REQUIRE(value > previous);
        REQUIRE(to_float(F16{static_cast<std::uint16_t>(bits | 0x8000)}) == -value);
        previous = value;
    }
}

TEST_CASE("bfloat16 is the upper half of a float") {
    CHECK(mor::to_float(BFloat16{0x3F80}) == 1.0F);
    CHECK(mor::to_float(BFloat16{0xC049}) == -3.140625F);
    CHECK(mor::to_float(BFloat16{0xFF80}) == -std::numeric_limits<float>::infinity());
    CHECK(std::bit_cast<std::uint32_t>(mor::to_float(BFloat16{0x7FC1})) == 0x7FC10000U);
}
