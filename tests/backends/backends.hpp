// SPDX-License-Identifier: Apache-2.0
//
// The harness that runs one piece of code on a backend and on the oracle, with the same numbers,
// and compares. Which backends are tested says under_test.hpp, and the include path which of
// several.
#pragma once

#include "under_test.hpp"
#include <mor/backends/reference/reference.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/testing/random_fill.hpp>
#include <mor/testing/tolerance.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace backend_tests {

using mor::Backend;
using mor::Context;
using mor::Index;
using mor::Tensor;
using mor::TokenId;
using mor::View;
namespace ops = mor::ops;

using Oracle = mor::Reference<double>;

/// Two threads where a backend has threads, so that splitting the work is tested too.
template <Backend B>
[[nodiscard]] B make_backend() {
    if constexpr (requires { typename B::Options; }) {
        return B{typename B::Options{.threads = 2}};
    } else {
        return B{};
    }
}

/// A tensor of a backend and one of the oracle that start out with the same numbers.
template <class T, class OracleT, int Rank, class Space>
struct Pair {
    Tensor<T, Rank, Space> tested;
    Tensor<OracleT, Rank> oracle;

    explicit Pair(const std::array<Index, static_cast<std::size_t>(Rank)>& extents)
        : tested{extents}, oracle{extents} {}

    template <class U>
    void fill(const std::vector<U>& values) {
        mor::testing::fill_from(tested.view(), values);
        mor::testing::fill_from(oracle.view(), values);
    }
};

/// What add(sum) makes of a sum in the backend's memory that begins as `first`.
template <Backend B, class Add>
[[nodiscard]] double sum_after(Add&& add, double first = 0) {
    Tensor<double, 1, typename B::Space> sum{{1}};
    mor::from_host(sum.view(), std::vector<double>{first});
    add(sum.view());
    return mor::to_host(sum.view()).front();
}

/// Hands code that runs on both sides the context and the views of its side.
template <Backend Side, bool is_oracle>
struct OneSide {
    using B = Side;
    Context<B>& context;

    template <class T, class OracleT, int Rank, class Space>
    [[nodiscard]] auto operator()(Pair<T, OracleT, Rank, Space>& pair) const {
        if constexpr (is_oracle) {
            return pair.oracle.view();
        } else {
            return pair.tested.view();
        }
    }

    template <class Add>
    [[nodiscard]] double sum_after(Add&& add) const {
        return backend_tests::sum_after<B>(add);
    }
};

template <Backend B>
class Bench {
public:
    using Element = typename B::Element;
    template <int Rank>
    using Numbers = Pair<Element, double, Rank, typename B::Space>;
    template <class T>
    using Integers = Pair<T, T, 1, typename B::Space>;

    [[nodiscard]] Context<B>& context() { return tested_; }
    [[nodiscard]] mor::Random& random() { return random_; }

    [[nodiscard]] Numbers<1> vector(Index size, double deviation = 1) {
        return normal<1>({size}, deviation);
    }
    [[nodiscard]] Numbers<2> matrix(Index rows, Index columns, double deviation = 1) {
        return normal<2>({rows, columns}, deviation);
    }
    [[nodiscard]] Numbers<1> vector_of(const std::vector<double>& values) {
        Numbers<1> pair{{static_cast<Index>(values.size())}};
        pair.fill(values);
        return pair;
    }
    [[nodiscard]] Numbers<2> matrix_of(Index rows, Index columns,
                                       const std::vector<double>& values) {
        Numbers<2> pair{{rows, columns}};
        pair.fill(values);
        return pair;
    }
    template <class T = Index>
    [[nodiscard]] Integers<T> integers(const std::vector<T>& values) {
        Integers<T> pair{{static_cast<Index>(values.size())}};
        pair.fill(values);
        return pair;
    }

    /// Calls body(side) for the backend under test and for the oracle; side(pair) is the view.
    template <class Body>
    void run(Body&& body) {
        body(OneSide<B, false>{tested_});
        body(OneSide<Oracle, true>{oracle_});
    }

    /// The same for a body that returns a number; the two results must agree.
    template <class Body>
    void run_and_compare(Index reduction_length, Body&& body) {
        const double actual = body(OneSide<B, false>{tested_});
        const double expected = body(OneSide<Oracle, true>{oracle_});
        const double tolerance = mor::testing::tolerance<Element>(reduction_length);
        CHECK(mor::testing::mismatch(actual, expected, tolerance) == "");
        const double wrong = actual == 0 ? 1 : actual * (1 + 10 * tolerance);
        CHECK(mor::testing::mismatch(wrong, expected, tolerance) != "");
    }

    /// Both sides hold the same numbers, up to the rounding of sums of `reduction_length` terms;
    /// and a result that is wrong in one element by ten times that would not have passed.
    template <int Rank>
    void expect_agreement(Numbers<Rank>& pair, Index reduction_length) {
        const View<const double, Rank> expected = pair.oracle.view();
        const double tolerance = mor::testing::tolerance<Element>(reduction_length);
        CHECK(mor::testing::mismatch(pair.tested.view(), expected, tolerance) == "");
        std::vector<Element> wrong = mor::to_host(pair.tested.view());
        if (wrong.empty()) {
            return;
        }
        const auto larger = [](Element a, Element b) { return std::abs(a) < std::abs(b); };
        const double norm = std::abs(*std::max_element(wrong.begin(), wrong.end(), larger));
        wrong[wrong.size() / 2] += static_cast<Element>(norm == 0 ? 1 : 10 * tolerance * norm);
        const View<const Element, Rank> perturbed{wrong.data(), expected.extents()};
        CHECK(mor::testing::mismatch(perturbed, expected, tolerance) != "");
    }

    /// The side under test holds these numbers, up to the same rounding.
    template <int Rank>
    void expect_values(const Numbers<Rank>& pair, const std::vector<double>& expected,
                       Index reduction_length) {
        const View<const double, Rank> view{expected.data(), pair.tested.extents()};
        REQUIRE(static_cast<Index>(expected.size()) == view.size());
        const double tolerance = mor::testing::tolerance<Element>(reduction_length);
        CHECK(mor::testing::mismatch(pair.tested.view(), view, tolerance) == "");
    }

    /// Both sides hold the same integers.
    template <class T>
    void expect_equal(Integers<T>& pair) {
        const View<const T, 1> expected = pair.oracle.view();
        const std::vector<T> tested = mor::to_host(pair.tested.view());
        const View<const T, 1> actual{tested.data(), expected.extents()};
        CHECK(mor::testing::mismatch(actual, expected) == "");
    }

private:
    template <int Rank>
    [[nodiscard]] Numbers<Rank> normal(
        const std::array<Index, static_cast<std::size_t>(Rank)>& extents, double deviation) {
        Numbers<Rank> pair{extents};
        auto values = mor::testing::normal_values(random_, pair.oracle.size(), deviation);
        if constexpr (rounds_factors<B>) {
            for (auto& value : values) {
                value = mor::to_float(mor::to_bfloat16(static_cast<float>(value)));
            }
        }
        pair.fill(values);
        return pair;
    }

    B backend_ = make_backend<B>();
    Oracle oracle_backend_;
    Context<B> tested_{backend_};
    Context<Oracle> oracle_{oracle_backend_};
    mor::Random random_{20'260};
};

/// Numbers as text, "1 2.5 3", so that a failed comparison can be read.
template <class T>
[[nodiscard]] std::string text(const std::vector<T>& values) {
    std::ostringstream joined;
    const char* separator = "";
    for (const T value : values) {
        joined << std::exchange(separator, " ") << value;
    }
    return joined.str();
}

}  // namespace backend_tests
