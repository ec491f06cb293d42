// SPDX-License-Identifier: Apache-2.0
//
// How far two results may be apart, and a comparison that says where and by how much they differ.
// Needs no test framework: the answer is a sentence, empty when the results agree.
#pragma once

#include <mor/core/format.hpp>
#include <mor/core/tensor.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace mor::testing {

/// The relative error allowed in a result whose elements are sums of `reduction_length` terms,
/// computed in T. Rounding errors add up like a random walk, so the bound grows with the square
/// root (Higham and Mary 2019); the factor 8 leaves room for the roundings before and after.
template <std::floating_point T>
[[nodiscard]] double tolerance(Index reduction_length) {
    const double length = static_cast<double>(std::max<Index>(1, reduction_length));
    return 8.0 * double{std::numeric_limits<T>::epsilon()} * (1.0 + std::sqrt(length));
}

namespace detail {

/// "[3, 17]" for element 305 of a view with 96 columns.
template <std::size_t Rank>
[[nodiscard]] std::string format_position(Index element, const std::array<Index, Rank>& extents) {
    std::array<Index, Rank> position{};
    for (std::size_t axis = Rank; axis-- > 0;) {
        position[axis] = element % extents[axis];
        element /= extents[axis];
    }
    return format_extents(position);
}

template <std::size_t Rank>
[[nodiscard]] std::string extents_mismatch(const std::array<Index, Rank>& actual,
                                           const std::array<Index, Rank>& expected) {
    return actual == expected
               ? std::string{}
               : "actual is " + format_extents(actual) + ", expected " + format_extents(expected);
}

/// The sentence about the element that exceeds `allowed(element)` most, or an empty string.
/// NaN agrees with nothing, an infinity only with itself.
template <std::size_t Rank, class T, class U, class Allowed>
[[nodiscard]] std::string worst_mismatch(const std::vector<T>& actual,
                                         const std::vector<U>& expected,
                                         const std::array<Index, Rank>& extents,
                                         Allowed&& allowed) {
    std::size_t worst = 0;
    std::size_t failures = 0;
    double worst_excess = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) {
        const auto a = static_cast<double>(actual[i]);
        const auto e = static_cast<double>(expected[i]);
        const double difference = std::abs(a - e);
        if (a == e || difference <= allowed(i)) {
            continue;
        }
        ++failures;
        const double excess = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                                     : difference - allowed(i);
        if (excess > worst_excess || failures == 1) {
            worst = i;
            worst_excess = excess;
        }
    }
    if (failures == 0) {
        return {};
    }
    std::ostringstream text;
    text.precision(std::numeric_limits<double>::max_digits10);
    text << failures << " of " << actual.size() << " elements differ, most at "
         << format_position(static_cast<Index>(worst), extents) << ": expected " << expected[worst]
         << ", actual " << actual[worst];
    text.precision(3);
    text << ", difference "
         << std::abs(static_cast<double>(actual[worst]) - static_cast<double>(expected[worst]))
         << ", allowed " << allowed(worst);
    return text.str();
}

/// Of the finite values, so that an infinity does not allow everything else to be wrong.
template <class T>
[[nodiscard]] double largest_magnitude(const std::vector<T>& values) {
    double largest = 0;
    for (const T value : values) {
        const double magnitude = std::abs(static_cast<double>(value));
        largest = std::isfinite(magnitude) ? std::max(largest, magnitude) : largest;
    }
    return largest;
}

}  // namespace detail

/// Compares by the norm: |actual - expected| <= tolerance * max(|actual|, |expected|), each the
/// largest magnitude in its tensor. Empty if so everywhere, else the worst element in words.
/// The views may be of different element types and memory spaces.
template <class T, class U, int Rank, MemorySpace SpaceA, MemorySpace SpaceE>
[[nodiscard]] std::string mismatch(View<T, Rank, SpaceA> actual, View<U, Rank, SpaceE> expected,
                                   double tolerance) {
    if (actual.extents() != expected.extents()) {
        return detail::extents_mismatch(actual.extents(), expected.extents());
    }
    const auto a = to_host(actual);
    const auto e = to_host(expected);
    const double allowed =
        tolerance * std::max(detail::largest_magnitude(a), detail::largest_magnitude(e));
    return detail::worst_mismatch(a, e, actual.extents(), [=](std::size_t) { return allowed; });
}

/// Compares element by element: |actual - expected| <= tolerance * magnitude, where `magnitude`
/// has the extents of the results, for example |A| |B| for the product A B. Stricter than the norm
/// where rows have different sizes.
template <class T, class U, int Rank, MemorySpace SpaceA, MemorySpace SpaceE>
[[nodiscard]] std::string componentwise_mismatch(View<T, Rank, SpaceA> actual,
                                                 View<U, Rank, SpaceE> expected,
                                                 View<const double, Rank> magnitude,
                                                 double tolerance) {
    if (actual.extents() != expected.extents()) {
        return detail::extents_mismatch(actual.extents(), expected.extents());
    }
    if (magnitude.extents() != expected.extents()) {
        return "magnitude: " + detail::extents_mismatch(magnitude.extents(), expected.extents());
    }
    return detail::worst_mismatch(
        to_host(actual), to_host(expected), actual.extents(),
        [=](std::size_t i) { return tolerance * std::abs(magnitude.data()[i]); });
}

/// Compares two numbers: |actual - expected| <= tolerance * max(|actual|, |expected|).
[[nodiscard]] inline std::string mismatch(double actual, double expected, double tolerance) {
    return mismatch(View<const double, 1>{&actual, {1}}, View<const double, 1>{&expected, {1}},
                    tolerance);
}

/// Compares exactly, for results that are choices: row numbers, depths, token ids.
template <std::integral T, int Rank, MemorySpace SpaceA, MemorySpace SpaceE>
[[nodiscard]] std::string mismatch(View<const T, Rank, SpaceA> actual,
                                   View<const T, Rank, SpaceE> expected) {
    if (actual.extents() != expected.extents()) {
        return detail::extents_mismatch(actual.extents(), expected.extents());
    }
    return detail::worst_mismatch(to_host(actual), to_host(expected), actual.extents(),
                                  [](std::size_t) { return 0.0; });
}

}  // namespace mor::testing
