// SPDX-License-Identifier: Apache-2.0
//
// The device's own code: launches, teams, memory, products. All else of the backend is tested on
// the processor too.
#include <mor/backends/cuda/cuda.hpp>
#include <mor/core/tensor.hpp>
#include <mor/testing/random_fill.hpp>
#include <mor/testing/tolerance.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

using mor::DeviceError;
using mor::Index;
using mor::Tensor;
using mor::Write;
using mor::cuda::DeviceSpace;
using mor::cuda::DeviceSystem;
using mor::cuda::in_kernel;
using mor::cuda::Reading;
using mor::cuda::widened;

namespace {

/// Adds 1 to every element.
template <class T>
void increment(const DeviceSystem& system, mor::View<T, 1, DeviceSpace> x) {
    system.for_each(x.size(), [=] MOR_KERNEL(Index i) { in_kernel(x)[i] += T{1}; });
}

/// out[i] = combine(team, i * values + rank) for every team i, by all threads.
template <class T>
struct TeamReductions {
    mor::View<T, 2, DeviceSpace> sums;     // [teams, threads]
    mor::View<T, 2, DeviceSpace> largest;  // the same

    template <class Team>
    MOR_HOST_DEVICE void operator()(Team& team, Index i) const {
        const T x = static_cast<T>((i + 3 * team.rank()) % 101 - 50);
        in_kernel(sums)(i, team.rank()) = team.sum(x);
        in_kernel(largest)(i, team.rank()) = team.max(x);
    }
};

/// Threads read what other threads of their team wrote to shared memory.
struct Reverse {
    mor::View<Index, 2, DeviceSpace> out;  // [teams, count]
    Index count;

    template <class Team>
    MOR_HOST_DEVICE void operator()(Team& team, Index i) const {
        Index* const memory = team.template shared<Index>();
        for (Index j = team.rank(); j < count; j += team.size()) {
            memory[j] = i * count + j;
        }
        team.sync();
        for (Index j = team.rank(); j < count; j += team.size()) {
            in_kernel(out)(i, j) = memory[count - 1 - j];
        }
    }
};

/// A random matrix on both sides, and how a product reads it.
template <class T>
struct RandomFactor {
    Index rows;  // as it is read, as are columns
    Index columns;
    Reading reading;
    std::vector<T> values;
    Tensor<T, 2, DeviceSpace> on_device;

    RandomFactor(mor::Random& random, Index read_rows, Index read_columns, Reading how)
        : rows{read_rows},
          columns{read_columns},
          reading{how},
          on_device{how == Reading::as_stored ? std::array{rows, columns}
                                              : std::array{columns, rows}} {
        const auto numbers = mor::testing::normal_values(random, rows * columns, 1);
        values.assign(numbers.begin(), numbers.end());
        from_host(on_device.view(), values);
    }

    [[nodiscard]] double at(Index row, Index column) const {
        const Index i =
            reading == Reading::as_stored ? row * columns + column : column * rows + row;
        return double{values[static_cast<std::size_t>(i)]};
    }
    [[nodiscard]] mor::cuda::Factor<T, DeviceSpace> factor() const {
        return {on_device.view(), reading};
    }
};

/// Compares c (=, +=) a b with sums in double.
template <class T>
std::string product_mismatch(const DeviceSystem& system, const RandomFactor<T>& a,
                             const RandomFactor<T>& b, Write write) {
    // What is overwritten may be no number at all.
    const T before = write == Write::overwrite ? std::numeric_limits<T>::quiet_NaN() : T{3};
    const std::array<Index, 2> extents{a.rows, b.columns};
    Tensor<T, 2, DeviceSpace> c{extents};
    from_host(c.view(), std::vector<T>(static_cast<std::size_t>(c.size()), before));
    system.product(a.factor(), b.factor(), c.view(), write);
    std::vector<double> expected;
    for (Index i = 0; i < a.rows; ++i) {
        for (Index j = 0; j < b.columns; ++j) {
            double sum = write == Write::overwrite ? 0 : 3;
            for (Index k = 0; k < a.columns; ++k) {
                sum += a.at(i, k) * b.at(k, j);
            }
            expected.push_back(sum);
        }
    }
    return mor::testing::mismatch(c.view(), mor::View<const double, 2>{expected.data(), extents},
                                  mor::testing::tolerance<T>(a.columns + 1));
}

}  // namespace

TEST_CASE("each number is visited once, whatever their count") {
    const DeviceSystem system;
    for (const Index n : {0, 1, 31, 255, 256, 257, 100'000}) {
        CAPTURE(n);
        Tensor<float, 1, DeviceSpace> x{{n}};
        increment(system, x.view());
        increment(system, x.view());
        CHECK(to_host(x.view()) == std::vector<float>(static_cast<std::size_t>(n), 2));
    }
}

TEST_CASE_TEMPLATE("every thread of a team gets the sum and the largest of all", T, float, double,
                   Index) {
    const DeviceSystem system;
    constexpr Index threads = DeviceSystem::Team::num_threads;
    for (const Index teams : {1, 3, 1'000}) {
        Tensor<T, 2, DeviceSpace> sums{{teams, threads}};
        Tensor<T, 2, DeviceSpace> largest{{teams, threads}};
        system.for_each_team(teams, TeamReductions<T>{sums.view(), largest.view()});
        std::vector<T> expected_sums;
        std::vector<T> expected_largest;
        for (Index i = 0; i < teams; ++i) {
            T sum{0};
            T most{-1'000};
            for (Index rank = 0; rank < threads; ++rank) {
                const T x = static_cast<T>((i + 3 * rank) % 101 - 50);
                sum += x;  // whole numbers: exact in any order
                most = std::max(most, x);
            }
            expected_sums.insert(expected_sums.end(), threads, sum);
            expected_largest.insert(expected_largest.end(), threads, most);
        }
        CHECK(to_host(sums.view()) == expected_sums);
        CHECK(to_host(largest.view()) == expected_largest);
    }
}

TEST_CASE("teams share as much memory as they ask for") {
    const DeviceSystem system;
    for (const Index count : {1, 100, 3'000, 10'000}) {  // the last: more than 48 KiB
        CAPTURE(count);
        constexpr Index teams = 5;
        Tensor<Index, 2, DeviceSpace> out{{teams, count}};
        system.for_each_team(teams, static_cast<std::size_t>(count) * sizeof(Index),
                             Reverse{out.view(), count});
        std::vector<Index> expected(static_cast<std::size_t>(teams * count));
        for (Index i = 0; i < teams; ++i) {
            const auto first = expected.begin() + i * count;
            std::iota(first, first + count, i * count);
            std::reverse(first, first + count);
        }
        CHECK(to_host(out.view()) == expected);
    }
}

TEST_CASE("more shared memory than a block can have is an error that names call and kernel") {
    const DeviceSystem system;
    Tensor<Index, 2, DeviceSpace> out{{1, 1}};
    try {
        system.for_each_team(1, std::size_t{1} << 30, Reverse{out.view(), 1});
        FAIL("a team had a gigabyte of shared memory");
    } catch (const DeviceError& error) {
        const std::string message = error.what();
        CAPTURE(message);
        CHECK(message.find("mor: cudaFuncSetAttribute: ") == 0);
        CHECK(message.find("1073741824 bytes of shared memory") != std::string::npos);
        CHECK(message.find("Reverse") != std::string::npos);
    }
    CHECK(to_host(out.view()) == std::vector<Index>{0});  // and the next calls work
}

TEST_CASE("the pool says what is used and what was, and keeps what it took") {
    const DeviceSystem system;
    DeviceSpace::wait();
    DeviceSpace::release_unused();
    DeviceSpace::reset_high_water();
    const mor::cuda::DeviceMemory before = DeviceSpace::memory();
    constexpr Index bytes = Index{64} << 20;
    {
        const Tensor<char, 1, DeviceSpace> large{{bytes}};
        const mor::cuda::DeviceMemory during = DeviceSpace::memory();
        CHECK(during.used >= before.used + bytes);
        CHECK(during.most_used >= before.used + bytes);
        CHECK(during.allocations == before.allocations + 1);
    }
    DeviceSpace::wait();
    const mor::cuda::DeviceMemory after = DeviceSpace::memory();
    CHECK(after.used == before.used);
    CHECK(after.most_used >= before.used + bytes);
    CHECK(after.reserved >= before.reserved + bytes);
    DeviceSpace::release_unused();
    CHECK(DeviceSpace::memory().reserved < after.reserved);
    DeviceSpace::reset_high_water();
    CHECK(DeviceSpace::memory().most_used == after.used);
}

TEST_CASE("more memory than there is, is an error with both numbers") {
    constexpr Index bytes = Index{1} << 50;
    try {
        const DeviceSystem system{{.memory_bytes = bytes}};
        FAIL("a petabyte of memory");
    } catch (const DeviceError& error) {
        const std::string message = error.what();
        CAPTURE(message);
        CHECK(message.find("mor: cudaMallocFromPoolAsync: ") == 0);
        CHECK(message.find(std::to_string(bytes) + " bytes were asked for") != std::string::npos);
    }
    const DeviceSystem system{{.memory_bytes = Index{1} << 20}};
    CHECK_FALSE(system.device_name().empty());
}

TEST_CASE_TEMPLATE("products read factors either way and add or overwrite", T, float, double) {
    const mor::Cuda<T> invariant;
    const mor::Cuda<T> fastest{DeviceSystem{{.batch_invariant = false}}};
    mor::Random random{7};
    struct Sizes {
        Index m, k, n;
    };
    for (const auto& [m, k, n] :
         {Sizes{1, 1, 1}, {1, 96, 70}, {7, 5, 3}, {130, 33, 17}, {64, 64, 64}, {3, 0, 5}}) {
        for (const Reading a_reading : {Reading::as_stored, Reading::transposed}) {
            for (const Reading b_reading : {Reading::as_stored, Reading::transposed}) {
                for (const Write write : {Write::overwrite, Write::accumulate}) {
                    CAPTURE(m);
                    CAPTURE(k);
                    CAPTURE(n);
                    CAPTURE(static_cast<int>(a_reading));
                    CAPTURE(static_cast<int>(b_reading));
                    const RandomFactor<T> a{random, m, k, a_reading};
                    const RandomFactor<T> b{random, k, n, b_reading};
                    CHECK(product_mismatch(invariant.system(), a, b, write) == "");
                    CHECK(product_mismatch(fastest.system(), a, b, write) == "");
                }
            }
        }
    }
}

// Sums over rows may be split. That of ones is exact, however it is.
TEST_CASE_TEMPLATE("sums of any number of terms leave out none", C, float, mor::BFloat16) {
    using Products = mor::cuda::BFloat16Products<DeviceSystem>;
    using Factor = mor::cuda::Factor<float, DeviceSpace>;
    const std::array<Products, 2> systems{
        Products{DeviceSystem::Options{}},
        Products{DeviceSystem::Options{.batch_invariant = false}}};
    const auto ones = [](const std::array<Index, 2>& extents) {
        Tensor<float, 2, DeviceSpace> matrix{extents};
        from_host(matrix.view(), std::vector<float>(static_cast<std::size_t>(matrix.size()), 1));
        return matrix;
    };
    for (const Index terms : {255, 1'000, 4'097, 8'191, 12'345, 16'383}) {
        for (const auto& [m, n] : {std::array<Index, 2>{64, 320}, {320, 64}, {960, 960}}) {
            CAPTURE(terms);
            CAPTURE(m);
            const auto a = ones({terms, m});
            const auto b = ones({terms, n});
            const float expected = widened(mor::cuda::rounded_to<C>(static_cast<float>(terms)));
            for (const Products& products : systems) {
                Tensor<C, 2, DeviceSpace> c{{m, n}};
                products.product(Factor{a.view(), Reading::transposed}, Factor{b.view()}, c.view(),
                                 Write::overwrite);
                const std::vector<C> sums = to_host(c.view());
                CHECK(std::all_of(sums.begin(), sums.end(),
                                  [&](C sum) { return widened(sum) == expected; }));
            }
        }
    }
}

TEST_CASE("several host threads see each other's memory without waiting for the GPU") {
    const DeviceSystem system;
    constexpr Index size = 1 << 20;
    Tensor<float, 1, DeviceSpace> x{{size}};
    for (int round = 0; round < 8; ++round) {
        std::thread{[&] { increment(system, x.view()); }}.join();
    }
    CHECK(to_host(x.view()) == std::vector<float>(size, 8));
}

TEST_CASE("a system that waits computes the same") {
    const DeviceSystem system{{.waits = true}};
    Tensor<float, 1, DeviceSpace> x{{1'000}};
    increment(system, x.view());
    CHECK(to_host(x.view()) == std::vector<float>(1'000, 1));
}
