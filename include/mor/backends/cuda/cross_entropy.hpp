// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy of the Cuda backend: a team a row.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/ops/cross_entropy.hpp>

#include <cmath>
#include <limits>

namespace mor {

template <class T, class S>
struct Kernel<op::CrossEntropy, Cuda<T, S>> {
    using B = Cuda<T, S>;
    using Space = typename B::Space;

    template <class DLogits>
    static void run(Context<B>& context, ConstMatrixView<B> logits, ConstTokenView<B> targets,
                    double scale, DLogits dlogits, double factor, SumView<B> sum) {
        using Number = typename DLogits::Number;
        const typename Arena<Space>::Scope scope{context.arena()};
        const auto losses = context.arena().template make<double, 1>({logits.rows()});
        const auto gradient_factor = static_cast<T>(scale);
        const bool has_gradient = !dlogits.empty();
        context.backend().system().for_each_team(
            logits.rows(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const View<const T, 1> row = cuda::in_kernel(logits.row(i));
                const TokenId target = cuda::in_kernel(targets)[i];
                if (target < 0) {
                    for (Index j = team.rank(); has_gradient && j < row.size(); j += team.size()) {
                        cuda::in_kernel(dlogits)(i, j) = cuda::rounded_to<Number>(T{0});
                    }
                    if (team.rank() == 0) {
                        cuda::in_kernel(losses)[i] = 0;
                    }
                    return;
                }
                // Before the sums below, which wait for all threads: dlogits may be logits.
                const T target_logit = row[target];
                // Of this thread's numbers, in one pass: the sum shrinks when a larger one comes.
                constexpr T nothing = -std::numeric_limits<T>::infinity();
                T largest_so_far = nothing;
                T exponentials{0};
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    const T logit = row[j];
                    if (logit > largest_so_far) {
                        exponentials = exponentials * std::exp(largest_so_far - logit) + T{1};
                        largest_so_far = logit;
                    } else if (logit != nothing) {
                        exponentials += std::exp(logit - largest_so_far);
                    }
                }
                const T largest = team.max(largest_so_far);
                const T of_row = team.sum(exponentials * std::exp(largest_so_far - largest));
                if (team.rank() == 0) {
                    cuda::in_kernel(losses)[i] =
                        std::log(double{of_row}) + (double{largest} - double{target_logit});
                }
                for (Index j = team.rank(); has_gradient && j < row.size(); j += team.size()) {
                    const T probability = std::exp(row[j] - largest) / of_row;
                    cuda::in_kernel(dlogits)(i, j) = cuda::rounded_to<Number>(
                        gradient_factor * (probability - (j == target ? T{1} : T{0})));
                }
            });
        cuda::detail::add_sum<B>(context, losses, factor, sum);
    }
};

}  // namespace mor
