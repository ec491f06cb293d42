// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/cross_entropy.hpp>

#include <cmath>

namespace mor {

// loss = sum_i logsumexp(logits[i]) - logits[i, target],
// dlogits[i, j] = scale * (exp(logits[i, j] - logsumexp(logits[i])) - (j == target))
template <class T>
struct Kernel<op::CrossEntropy, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> logits,
                    View<const TokenId, 1> targets, double scale, View<T, 2> dlogits, double factor,
                    View<double, 1> sum) {
        double loss = 0;
        for (Index i = 0; i < logits.rows(); ++i) {
            const bool ignored = targets[i] < 0;
            const double log_sum = ignored ? 0.0 : reference::detail::logsumexp<T>(logits.row(i));
            if (!ignored) {
                loss += log_sum - double{logits(i, targets[i])};
            }
            for (Index j = 0; j < logits.columns() && !dlogits.empty(); ++j) {
                const double onehot = j == targets[i] ? 1.0 : 0.0;
                const double probability = std::exp(double{logits(i, j)} - log_sum);
                dlogits(i, j) = ignored ? T{0} : static_cast<T>(scale * (probability - onehot));
            }
        }
        sum[0] += factor * loss;
    }
};

}  // namespace mor
