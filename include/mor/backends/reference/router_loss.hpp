// SPDX-License-Identifier: Apache-2.0
//
// Router losses of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/router_loss.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

namespace reference::detail {

[[nodiscard]] inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// log(1 + exp(x)), without overflow.
[[nodiscard]] inline double softplus(double x) {
    return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace reference::detail

// -log sigmoid(z) = softplus(-z) for a kept row, -log(1 - sigmoid(z)) = softplus(z) for another;
// the gradient of both is sigmoid(z) - (1 if kept).
template <class T>
struct Kernel<op::SelectionLoss, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 1> logits,
                    View<const Index, 1> kept, double scale, View<T, 1> dlogits, double factor,
                    View<double, 1> sum) {
        using reference::detail::sigmoid;
        using reference::detail::softplus;
        double loss = 0;
        for (Index i = 0; i < logits.size(); ++i) {
            const bool is_kept = std::binary_search(kept.data(), kept.data() + kept.size(), i);
            const double z = logits[i];
            loss += softplus(is_kept ? -z : z);
            dlogits[i] += static_cast<T>(scale * (sigmoid(z) - (is_kept ? 1.0 : 0.0)));
        }
        sum[0] += factor * loss;
    }
};

// d logsumexp^2 / d logits_j = 2 logsumexp softmax_j
template <class T>
struct Kernel<op::RouterZLoss, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> logits, double scale,
                    View<T, 2> dlogits, double factor, View<double, 1> sum) {
        double loss = 0;
        for (Index i = 0; i < logits.rows(); ++i) {
            const double log_sum = reference::detail::logsumexp<T>(logits.row(i));
            loss += log_sum * log_sum;
            for (Index j = 0; j < logits.columns(); ++j) {
                const double p = std::exp(double{logits(i, j)} - log_sum);
                dlogits(i, j) += static_cast<T>(scale * 2.0 * log_sum * p);
            }
        }
        sum[0] += factor * loss;
    }
};

// loss = sum_j P_j f_j, P_j = mean_i gate[i, j], f_j = depths * (share of rows with best == j);
// without rows the loss is 0.
template <class T>
struct Kernel<op::BalancingLoss, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> gate,
                    View<const Index, 1> best, double scale, View<T, 2> dgate, double factor,
                    View<double, 1> sum) {
        const auto rows = static_cast<double>(gate.rows());
        double loss = 0;
        for (Index j = 0; j < gate.columns() && gate.rows() > 0; ++j) {
            const auto chosen = std::count(best.data(), best.data() + best.size(), j);
            const double f =
                static_cast<double>(gate.columns()) * static_cast<double>(chosen) / rows;
            for (Index i = 0; i < gate.rows(); ++i) {
                loss += double{gate(i, j)} / rows * f;
                dgate(i, j) += static_cast<T>(scale * f / rows);
            }
        }
        sum[0] += factor * loss;
    }
};

}  // namespace mor
