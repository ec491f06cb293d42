// SPDX-License-Identifier: Apache-2.0
#include <mor/core/bfloat16.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

using mor::BFloat16;
using mor::to_bfloat16;
using mor::to_float;

TEST_CASE("BFloat16: every number that is not NaN survives being a float") {
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
        const BFloat16 number{static_cast<std::uint16_t>(bits)};
        const float wide = to_float(number);
        if (std::isnan(wide)) {
            REQUIRE(std::isnan(to_float(to_bfloat16(wide))));
        } else {
            REQUIRE(to_bfloat16(wide).bits == number.bits);
        }
    }
}

TEST_CASE("BFloat16: rounds to the nearest, and of two to the even one") {
    const auto rounded = [](std::uint32_t bits) {
        return to_bfloat16(std::bit_cast<float>(bits)).bits;
    };
    CHECK(rounded(0x3F80'7FFF) == 0x3F80);
    CHECK(rounded(0x3F80'8000) == 0x3F80);  // half way, down to even
    CHECK(rounded(0x3F80'8001) == 0x3F81);
    CHECK(rounded(0x3F81'8000) == 0x3F82);  // half way, up to even
    CHECK(rounded(0xBF81'8000) == 0xBF82);
    CHECK(rounded(0x7F7F'FFFF) == 0x7F80);  // too large: infinity
    CHECK(rounded(0x7F80'0000) == 0x7F80);
    CHECK(rounded(0x0000'8001) == 0x0001);  // smaller than any normal number
}

TEST_CASE("BFloat16: a NaN whose payload is in the lower half stays a NaN") {
    for (const std::uint32_t bits : {0x7F80'0001U, 0xFF80'0001U, 0x7FFF'FFFFU}) {
        CHECK(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(bits)))));
    }
}
