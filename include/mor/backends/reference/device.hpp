// SPDX-License-Identifier: Apache-2.0
//
// The Reference<T> backend object, and the sums its kernels share.
#pragma once

#include <mor/core/backend.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string_view>

namespace mor {

/// Plain loops on one thread, sums in double whatever T is: slow on purpose, and easy to read. It
/// is the oracle of the other backends, and the place to look up what an operation computes.
template <std::floating_point T = double>
class Reference {
public:
    using Element = T;
    using Space = HostSpace;
    static constexpr std::string_view name = "reference";
};

namespace reference::detail {

/// a . b, both [n].
template <class T>
[[nodiscard]] double dot(View<const T, 1> a, View<const T, 1> b) {
    double sum = 0;
    for (Index i = 0; i < a.size(); ++i) {
        sum += double{a[i]} * double{b[i]};
    }
    return sum;
}

/// log(sum(exp(row))), without overflow.
template <class T>
[[nodiscard]] double logsumexp(View<const T, 1> row) {
    const double largest = *std::max_element(row.data(), row.data() + row.size());
    double sum = 0;
    for (Index j = 0; j < row.size(); ++j) {
        sum += std::exp(double{row[j]} - largest);
    }
    return largest + std::log(sum);
}

}  // namespace reference::detail
}  // namespace mor
