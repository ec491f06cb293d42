// SPDX-License-Identifier: Apache-2.0
//
// What routers have in common: temperature, the z-loss, checks of their options.
#pragma once

#include <mor/core/error.hpp>
#include <mor/ops/router_loss.hpp>
#include <mor/ops/scale.hpp>
#include <mor/recursion/step.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace mor::detail {

inline void check_positive(double value, std::string_view name) {
    check<ConfigError>(value > 0 && std::isfinite(value), name, " is ", value,
                       ", expected a positive number");
}
inline void check_not_negative(double value, std::string_view name) {
    check<ConfigError>(value >= 0 && std::isfinite(value), name, " is ", value,
                       ", expected 0 or more");
}

/// hidden / temperature [rows, hidden]; itself if that is 1.
template <Backend B>
[[nodiscard]] ConstMatrixView<B> cooled(Context<B>& context, ConstMatrixView<B> hidden,
                                        double temperature) {
    if (temperature == 1.0) {
        return hidden;
    }
    const MatrixView<B> result = context.matrix(hidden.rows(), hidden.columns());
    ops::scale<B>(context, hidden, 1.0 / temperature, result);
    return result;
}

/// Calls add(d), which adds the gradient of cooled() to d, and passes it on to dhidden.
template <Backend B, class Add>
void cooled_backward(Context<B>& context, double temperature, MatrixView<B> dhidden, Add&& add) {
    if (temperature == 1.0) {
        add(dhidden);
        return;
    }
    const MatrixView<B> dcooled = context.zero_matrix(dhidden.rows(), dhidden.columns());
    add(dcooled);
    ops::scale<B>(context, dcooled, 1.0 / temperature, dhidden, Write::accumulate);
}

/// Adds the router z-loss, the mean over rows, to the objective. scores [rows, columns].
template <Backend B>
void add_z_loss(Context<B>& context, ConstMatrixView<B> scores, double coefficient,
                const StepGradient<B>& gradient, MatrixView<B> dscores) {
    if (coefficient == 0) {
        return;
    }
    const double mean =
        gradient.loss_scale / static_cast<double>(std::max<Index>(1, scores.rows()));
    const double loss = ops::router_z_loss<B>(context, scores, coefficient * mean, dscores);
    add_loss(*gradient.losses, "router_z", loss * mean, coefficient);
}

}  // namespace mor::detail
