// SPDX-License-Identifier: Apache-2.0
//
// Router losses of the Cuda backend: a few numbers a row, a thread a row.
#pragma once

#include <mor/backends/cuda/compaction.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/ops/router_loss.hpp>

#include <cmath>

namespace mor {

namespace cuda::detail {

[[nodiscard]] MOR_HOST_DEVICE inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// log(1 + exp(x)), without overflow.
[[nodiscard]] MOR_HOST_DEVICE inline double softplus(double x) {
    return (x > 0.0 ? x : 0.0) + std::log1p(std::exp(-std::abs(x)));
}

/// log(sum(exp(row))), without overflow.
template <class T>
[[nodiscard]] MOR_HOST_DEVICE double logsumexp(View<const T, 1> row) {
    T largest = row[0];
    for (Index j = 1; j < row.size(); ++j) {
        largest = row[j] > largest ? row[j] : largest;
    }
    double sum = 0;
    for (Index j = 0; j < row.size(); ++j) {
        sum += std::exp(double{row[j]} - double{largest});
    }
    return double{largest} + std::log(sum);
}

}  // namespace cuda::detail

// -log sigmoid(z) = softplus(-z) for a kept row, -log(1 - sigmoid(z)) = softplus(z) for another;
// the gradient of both is sigmoid(z) - (1 if kept).
template <class T, class S>
struct Kernel<op::SelectionLoss, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstVectorView<B> logits, ConstIndexView<B> kept,
                    double scale, VectorView<B> dlogits, double factor, SumView<B> sum) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto losses = context.arena().template make<double, 1>({logits.size()});
        context.backend().system().for_each(logits.size(), [=] MOR_KERNEL(Index i) {
            const View<const Index, 1> rows = cuda::in_kernel(kept);
            const Index place = cuda::detail::lower_bound(rows, 0, rows.size(), i);
            const bool is_kept = place < rows.size() && rows[place] == i;
            const double z{cuda::in_kernel(logits)[i]};
            cuda::in_kernel(losses)[i] = cuda::detail::softplus(is_kept ? -z : z);
            cuda::in_kernel(dlogits)[i] +=
                static_cast<T>(scale * (cuda::detail::sigmoid(z) - (is_kept ? 1.0 : 0.0)));
        });
        cuda::detail::add_sum<B>(context, losses, factor, sum);
    }
};

// d logsumexp^2 / d logits_j = 2 logsumexp softmax_j
template <class T, class S>
struct Kernel<op::RouterZLoss, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> logits, double scale,
                    MatrixView<B> dlogits, double factor, SumView<B> sum) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto losses = context.arena().template make<double, 1>({logits.rows()});
        context.backend().system().for_each(logits.rows(), [=] MOR_KERNEL(Index i) {
            const View<const T, 1> row = cuda::in_kernel(logits.row(i));
            const double log_sum = cuda::detail::logsumexp(row);
            cuda::in_kernel(losses)[i] = log_sum * log_sum;
            for (Index j = 0; j < row.size(); ++j) {
                const double p = std::exp(double{row[j]} - log_sum);
                cuda::in_kernel(dlogits)(i, j) += static_cast<T>(scale * 2.0 * log_sum * p);
            }
        });
        cuda::detail::add_sum<B>(context, losses, factor, sum);
    }
};

// loss = sum_j P_j f_j, P_j = mean_i gate[i, j], f_j = depths * (share of rows with best == j);
// without rows the loss is 0. A team a depth.
template <class T, class S>
struct Kernel<op::BalancingLoss, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> gate, ConstIndexView<B> best,
                    double scale, MatrixView<B> dgate, double factor, SumView<B> sum) {
        if (gate.rows() == 0) {
            return;
        }
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto losses = context.arena().template make<double, 1>({gate.columns()});
        const auto rows = static_cast<double>(gate.rows());
        const double normaliser = static_cast<double>(gate.columns()) / (rows * rows);
        context.backend().system().for_each_team(
            gate.columns(), [=] MOR_KERNEL(typename S::Team & team, Index j) {
                double gates = 0;
                double chosen = 0;
                for (Index i = team.rank(); i < gate.rows(); i += team.size()) {
                    gates += double{cuda::in_kernel(gate)(i, j)};
                    chosen += cuda::in_kernel(best)[i] == j ? 1.0 : 0.0;
                }
                const double all_gates = team.sum(gates);
                const double load = team.sum(chosen);
                const T gradient = static_cast<T>(scale * normaliser * load);
                for (Index i = team.rank(); i < gate.rows(); i += team.size()) {
                    cuda::in_kernel(dgate)(i, j) += gradient;
                }
                if (team.rank() == 0) {
                    cuda::in_kernel(losses)[j] = normaliser * all_gates * load;
                }
            });
        cuda::detail::add_sum<B>(context, losses, factor, sum);
    }
};

}  // namespace mor
