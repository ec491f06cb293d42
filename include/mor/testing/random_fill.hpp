// SPDX-License-Identifier: Apache-2.0
//
// Reproducible test data for views of any element type and memory space.
#pragma once

#include <mor/core/random.hpp>
#include <mor/core/tensor.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <concepts>
#include <vector>

namespace mor::testing {

/// Draws `count` normal numbers with mean 0. They are rounded to float, so that tensors of float
/// and double filled from the same generator hold the same numbers.
[[nodiscard]] inline std::vector<double> normal_values(Random& random, Index count,
                                                       double deviation = 1) {
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& value : values) {
        value = double{static_cast<float>(deviation * random.normal())};
    }
    return values;
}

/// Draws `count` integers, uniform in [first, last).
template <std::integral T = Index>
[[nodiscard]] std::vector<T> uniform_integers(Random& random, Index count, Index first,
                                              Index last) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) {
        value = static_cast<T>(first + random.below(last - first));
    }
    return values;
}

/// Overwrites a view with as many numbers as it holds, converted to its element type.
template <class T, int Rank, MemorySpace Space, class U>
void fill_from(View<T, Rank, Space> view, const std::vector<U>& values) {
    from_host(view, std::vector<T>(values.begin(), values.end()));
}

/// Fills a view with normal_values().
template <std::floating_point T, int Rank, MemorySpace Space>
void random_fill(View<T, Rank, Space> view, Random& random, double deviation = 1) {
    fill_from(view, normal_values(random, view.size(), deviation));
}

}  // namespace mor::testing
