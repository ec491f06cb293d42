// SPDX-License-Identifier: Apache-2.0
#include <mor/core/random.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

using mor::Index;
using mor::Random;

namespace {

std::vector<std::uint64_t> first_bits(Random random, int count) {
    std::vector<std::uint64_t> bits;
    for (int i = 0; i < count; ++i) {
        bits.push_back(random.bits());
    }
    return bits;
}

}  // namespace

// A checkpoint resumes with the data order of these very numbers: they must never change.
TEST_CASE("the first numbers of known seeds") {
    CHECK(first_bits(Random{0}, 3) == std::vector<std::uint64_t>{0x3CF11A8C42ACBFB8ULL,
                                                                 0xB89B5D5330B03B54ULL,
                                                                 0x366753A99BF5B1CAULL});
    CHECK(first_bits(Random{42, 7}, 3) == std::vector<std::uint64_t>{0x158BBDA11F09B7AFULL,
                                                                     0x36979877B4A92C02ULL,
                                                                     0x57563A3C5F945A22ULL});
    Random random{1};
    CHECK(random.uniform() == 0x1.18ec74441b794p-1);
    CHECK(random.below(1'000) == 137);
    CHECK(random.normal() == doctest::Approx(0.76650512539093929).epsilon(1e-14));
}

TEST_CASE("the constructor and the bits are known to the compiler") {
    static_assert(Random{3}.bits() == Random{3, 0}.bits());
    static_assert(Random{3}.bits() != Random{4}.bits());
}

TEST_CASE("equal seeds repeat, other seeds and streams differ") {
    CHECK(first_bits(Random{5, 6}, 100) == first_bits(Random{5, 6}, 100));
    std::set<std::uint64_t> seen;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        for (std::uint64_t stream = 0; stream < 50; ++stream) {
            seen.insert(Random{seed, stream}.bits());
        }
    }
    CHECK(seen.size() == 2'500);
}

TEST_CASE("a copy continues from where the original is") {
    Random random{9};
    random.bits();
    Random copy = random;
    CHECK(copy.bits() == random.bits());
}

TEST_CASE("uniform numbers lie in [0, 1), have mean 1/2 and variance 1/12") {
    constexpr int count = 100'000;
    Random random{11};
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < count; ++i) {
        const double x = random.uniform();
        REQUIRE(x >= 0);
        REQUIRE(x < 1);
        sum += x;
        squares += (x - 0.5) * (x - 0.5);
    }
    CHECK(std::abs(sum / count - 0.5) < 0.004);
    CHECK(std::abs(squares / count - 1.0 / 12) < 0.001);
}

TEST_CASE("below() reaches every number of its range about equally often, and no other") {
    std::array<int, 7> counts{};
    Random random{12};
    for (int i = 0; i < 70'000; ++i) {
        const Index x = random.below(7);
        REQUIRE(x >= 0);
        REQUIRE(x < 7);
        ++counts[static_cast<std::size_t>(x)];
    }
    for (const int count : counts) {
        CHECK(std::abs(count - 10'000) < 500);
    }
    CHECK(random.below(1) == 0);
}

TEST_CASE("normal numbers have mean 0, variance 1 and the tails of the bell") {
    constexpr int count = 100'000;
    Random random{13};
    double sum = 0;
    double squares = 0;
    int outside = 0;
    for (int i = 0; i < count; ++i) {
        const double x = random.normal();
        REQUIRE(std::isfinite(x));
        sum += x;
        squares += x * x;
        outside += std::abs(x) > 1.96 ? 1 : 0;
    }
    CHECK(std::abs(sum / count) < 0.015);
    CHECK(std::abs(squares / count - 1) < 0.02);
    CHECK(std::abs(outside / static_cast<double>(count) - 0.05) < 0.004);
}
