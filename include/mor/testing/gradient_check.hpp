// SPDX-License-Identifier: Apache-2.0
//
// Compares an analytic gradient with finite differences. Works in double; a correct gradient of a
// smooth function agrees to about 1e-10, a wrong one does not agree to 1e-3.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace mor::testing {

struct GradientCheckOptions {
    double step = 0x1p-10;    // distance of the sample points, times max(1, |x|)
    double tolerance = 1e-6;  // relative error that still passes
};

/// What a gradient check found.
struct GradientCheck {
    double relative_error = 0;  // max |analytic - numeric| / max(|analytic|, |numeric|), max norms
    Index worst = 0;            // the element with the largest difference
    double analytic = 0;        // its analytic derivative
    double numeric = 0;         // and the one by differences
    double tolerance = 0;

    /// False for an error that is not a number, too.
    [[nodiscard]] bool passes() const { return relative_error <= tolerance; }

    [[nodiscard]] std::string message() const {
        std::ostringstream text;
        text.precision(12);
        text << "relative error of the gradient " << relative_error << ", allowed " << tolerance
             << "; largest difference at " << worst << ": analytic " << analytic << ", numeric "
             << numeric;
        return text.str();
    }
};

/// The gradient of `function(point)` by central differences of fourth order,
///   f'(x) = (8 (f(x + h) - f(x - h)) - (f(x + 2h) - f(x - 2h))) / 12h + O(h^4),
/// which cost four evaluations per element. `function` takes a const std::vector<double>&.
template <class Function>
    requires std::invocable<Function&, const std::vector<double>&>
[[nodiscard]] std::vector<double> numeric_gradient(Function&& function, std::vector<double> point,
                                                   double step = GradientCheckOptions{}.step) {
    std::vector<double> gradient;
    gradient.reserve(point.size());
    for (double& x : point) {
        const double center = x;
        const double h = step * std::max(1.0, std::abs(center));
        const auto difference = [&](double distance) {
            x = center + distance;
            const double above = function(point);
            x = center - distance;
            const double below = function(point);
            return above - below;
        };
        gradient.push_back((8.0 * difference(h) - difference(2.0 * h)) / (12.0 * h));
        x = center;
    }
    return gradient;
}

/// Compares `analytic`, the gradient at `point`, with the numeric one.
/// Throws ShapeError unless both vectors have the same size.
template <class Function>
    requires std::invocable<Function&, const std::vector<double>&>
[[nodiscard]] GradientCheck check_gradient(Function&& function, const std::vector<double>& point,
                                           const std::vector<double>& analytic,
                                           const GradientCheckOptions& options = {}) {
    check<ShapeError>(analytic.size() == point.size(),
                      "mor::testing::check_gradient: analytic has ", analytic.size(),
                      " elements, expected ", point.size());
    const std::vector<double> numeric = numeric_gradient(function, point, options.step);
    GradientCheck result{.tolerance = options.tolerance};
    double largest_difference = -1;
    double norm = 0;
    for (std::size_t i = 0; i < point.size(); ++i) {
        const double difference = std::abs(analytic[i] - numeric[i]);
        norm = std::max({norm, std::abs(analytic[i]), std::abs(numeric[i])});
        // Written so that NaN counts as the largest difference, and stays it.
        if (!(difference <= largest_difference) && !std::isnan(largest_difference)) {
            largest_difference = difference;
            result.worst = static_cast<Index>(i);
            result.analytic = analytic[i];
            result.numeric = numeric[i];
        }
    }
    if (largest_difference > 0 || std::isnan(largest_difference)) {
        result.relative_error = largest_difference / norm;
    }
    return result;
}

}  // namespace mor::testing
