// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy of the Cuda backend: a team a row.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/ops/cross_entropy.hpp>

#include <cmath>
#include <limits>

namespace mor {

template <class T, class S>
struct Kernel<op::CrossEntropy, Cuda<T, S>> {
    using B = Cuda<T, S>;
    using Space = typename B::Space;

    static void run(Context<B>& context, ConstMatrixView<B> logits, ConstTokenView<B> targets,
                    double scale, MatrixView<B> dlogits, double factor, SumView<B> sum) {
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
                        cuda::in_kernel(dlogits)(i, j) = T{0};
                    }
                    if (team.rank() == 0) {
                        cuda::in_kernel(losses)[i] = 0;
                    }
                    return;
                }
                // Before the sums below, which wait for all threads: dlogits may be logits.
                const T target_logit = row[target];
                T largest = -std::numeric_limits<T>::infinity();
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    largest = row[j] > largest ? row[j] : largest;
                }
                largest = team.max(largest);
                T exponentials{0};
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    exponentials += std::exp(row[j] - largest);
                }
                const T of_row = team.sum(exponentials);
                if (team.rank() == 0) {
                    cuda::in_kernel(losses)[i] =
                        std::log(double{of_row}) + (double{largest} - double{target_logit});
                }
                for (Index j = team.rank(); has_gradient && j < row.size(); j += team.size()) {
                    const T probability = std::exp(row[j] - largest) / of_row;
                    cuda::in_kernel(dlogits)(i, j) =
                        gradient_factor * (probability - (j == target ? T{1} : T{0}));
                }
            });
        cuda::detail::add_sum<B>(context, losses, factor, sum);
    }
};

}  // namespace mor
