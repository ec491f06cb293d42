// SPDX-License-Identifier: Apache-2.0
//
// What routers have in common: temperature, the z-loss, the choice of the best rows, checks of
// their options.
#pragma once

#include <mor/core/error.hpp>
#include <mor/ops/router_loss.hpp>
#include <mor/ops/rows.hpp>
#include <mor/ops/scale.hpp>
#include <mor/ops/select.hpp>
#include <mor/recursion/step.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mor::detail {

/// Options are doubles, but a backend may compute in float, and divides by some of them.
inline void check_positive(double value, std::string_view name) {
    constexpr double largest = std::numeric_limits<float>::max();
    check<ConfigError>(value > 0 && value <= largest && 1.0 / value <= largest, name, " is ", value,
                       ", expected a positive number that a float can hold, as can its inverse");
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

/// How many rows the best of each sequence are, if the host knows the sequences' lengths; of each,
/// to step.host_counts.
template <Backend B>
[[nodiscard]] std::optional<Index> best_count(const StepView<B>& step) {
    const std::span<const Index> entered = step.entered.host_offsets;
    const std::span<const Index> offsets = step.rows.host_offsets;
    if (!step.entered.knows_offsets() || !step.rows.knows_offsets()) {
        return std::nullopt;
    }
    Index total = 0;
    for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
        const Index most = capacity_count(entered[s + 1] - entered[s], step.capacity);
        const Index count = std::min(most, offsets[s + 1] - offsets[s]);
        total += count;
        if (step.host_counts != nullptr) {
            step.host_counts->push_back(count);
        }
    }
    return total;
}

/// A causal rule: rows whose score is above the bound go on.
template <Backend B>
struct CausalRule {
    ConstVectorView<B> scores;  // [candidates]
    double bound;
};

/// Writes the candidates that take the step to step.kept: the best-scored of each sequence, as many
/// as the capacity allows; in a causal pass those that the rule names, unless the capacity is 1;
/// all of them if depth is forced. Returns how many. scores [candidates].
template <Backend B>
[[nodiscard]] Index keep_best(Context<B>& context, const StepView<B>& step,
                              ConstVectorView<B> scores, const CausalRule<B>& rule) {
    if (step.must_keep_all() || step.capacity >= 1.0) {
        ops::number_rows<B>(context, step.kept);
        return step.num_candidates();
    }
    if (step.decision == Decision::causal) {
        return ops::select_greater<B>(context, rule.scores, rule.bound, step.kept);
    }
    const IndexView<B> counts = context.indices(step.entered.num_sequences());
    ops::capacity_counts<B>(context, step.entered.offsets, step.capacity, counts);
    return ops::top_k<B>(context, scores, step.rows.offsets, counts, step.kept, best_count(step));
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
    ops::router_z_loss<B>(context, scores, coefficient * mean, dscores, mean,
                          gradient.losses->slot("router_z", coefficient));
}

}  // namespace mor::detail
