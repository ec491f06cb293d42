// SPDX-License-Identifier: Apache-2.0
//
// Medians and other quantiles of measurements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace benchmarks {

/// The value below which a share q of `values` lies; 0 without values.
[[nodiscard]] inline double quantile(std::vector<double> values, double q) {
    if (values.empty()) {
        return 0;
    }
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

}  // namespace benchmarks
