// SPDX-License-Identifier: Apache-2.0
//
// The losses of routers and their gradients.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct SelectionLoss {};
struct RouterZLoss {};
struct BalancingLoss {};
}  // namespace op

namespace ops {

/// The auxiliary loss of expert-choice: the sum over n of the binary cross-entropy between logits
/// and "is kept", in nats. Adds scale * its gradient to dlogits, and factor * the loss to sum [1].
/// logits, dlogits [n]; kept [m] ascending.
template <Backend B>
void selection_loss(Context<B>& context, ConstVectorView<B> logits, ConstIndexView<B> kept,
                    double scale, VectorView<B> dlogits, double factor, SumView<B> sum) {
    expect_extents("selection_loss", "dlogits", dlogits, logits.extents());
    expect_extents("selection_loss", "sum", sum, {1});
    Kernel<op::SelectionLoss, B>::run(context, logits, kept, scale, dlogits, factor, sum);
}

/// The router z-loss: the sum over rows of logsumexp(logits)^2. Adds scale * its gradient to
/// dlogits, and factor * the loss to sum [1]. logits, dlogits [n, depths].
template <Backend B>
void router_z_loss(Context<B>& context, ConstMatrixView<B> logits, double scale,
                   MatrixView<B> dlogits, double factor, SumView<B> sum) {
    expect_extents("router_z_loss", "dlogits", dlogits, logits.extents());
    expect_extents("router_z_loss", "sum", sum, {1});
    Kernel<op::RouterZLoss, B>::run(context, logits, scale, dlogits, factor, sum);
}

/// The balancing loss of token-choice: sum_i P_i f_i, P_i the mean of gate[:, i] and f_i =
/// depths * (fraction of rows with best == i), which carries no gradient. Adds scale * its
/// gradient to dgate, and factor * the loss to sum [1]. gate, dgate [n, depths], best [n].
template <Backend B>
void balancing_loss(Context<B>& context, ConstMatrixView<B> gate, ConstIndexView<B> best,
                    double scale, MatrixView<B> dgate, double factor, SumView<B> sum) {
    expect_extents("balancing_loss", "best", best, {gate.rows()});
    expect_extents("balancing_loss", "dgate", dgate, gate.extents());
    expect_extents("balancing_loss", "sum", sum, {1});
    Kernel<op::BalancingLoss, B>::run(context, gate, best, scale, dgate, factor, sum);
}

}  // namespace ops
}  // namespace mor
