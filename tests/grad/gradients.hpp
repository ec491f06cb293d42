// SPDX-License-Identifier: Apache-2.0
//
// What the gradient tests share. Every backward operation is compared with finite differences of
// its forward operation, in double. The scalar that is differentiated is the product of the output
// with fixed random numbers, which the backward operation gets as the gradient of the output.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>
#include <mor/testing/gradient_check.hpp>
#include <mor/testing/random_fill.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

namespace gradient_tests {

using mor::Context;
using mor::Index;
using mor::TokenId;
using mor::View;
using mor::testing::check_gradient;
using mor::testing::GradientCheck;
namespace ops = mor::ops;

using BackendsUnderTest = std::tuple<mor::Reference<double>, mor::Cpu<double>>;
using Numbers = std::vector<double>;

/// A vector as [rows, columns].
inline View<const double, 2> matrix(const Numbers& x, Index rows, Index columns) {
    return {x.data(), {rows, columns}};
}
inline View<double, 2> matrix(Numbers& x, Index rows, Index columns) {
    return {x.data(), {rows, columns}};
}

template <class T>
View<const T, 1> vector(const std::vector<T>& x) {
    return {x.data(), {static_cast<Index>(x.size())}};
}
template <class T>
View<T, 1> vector(std::vector<T>& x) {
    return {x.data(), {static_cast<Index>(x.size())}};
}

inline Numbers zeros(Index count) { return Numbers(static_cast<std::size_t>(count)); }

inline double dot(const Numbers& a, const Numbers& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// What add(sum) adds to a sum.
template <class Add>
double sum_of(Add&& add) {
    double sum = 0;
    add(View<double, 1>{&sum, {1}});
    return sum;
}

template <class B>
struct Bench {
    B backend;
    Context<B> context{backend};
    mor::Random random{7};

    Numbers normal(Index count) { return mor::testing::normal_values(random, count); }
};

/// The gradient passes, and would not if one element were wrong by ten times the tolerance.
template <class Function>
void expect_gradient(Function&& function, const Numbers& point, const Numbers& analytic) {
    const GradientCheck check = check_gradient(function, point, analytic);
    CHECK_MESSAGE(check.passes(), check.message());
    Numbers wrong = analytic;
    double norm = 0;
    for (const double derivative : analytic) {
        norm = std::max(norm, std::abs(derivative));
    }
    wrong[wrong.size() / 2] += 10 * check.tolerance * norm;
    CHECK_FALSE(check_gradient(function, point, wrong).passes());
}

}  // namespace gradient_tests
