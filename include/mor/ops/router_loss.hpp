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
/// and "is kept", in nats, not scaled. Adds scale * its gradient to dlogits.
/// logits, dlogits [n]; kept [m] ascending.
template <Backend B>
[[nodiscard]] double selection_loss(Context<B>& context, ConstVectorView<B> logits,
                                    ConstIndexView<B> kept, double scale, VectorView<B> dlogits) {
    expect_extents("selection_loss", "dlogits", dlogits, logits.extents());
    return Kernel<op::SelectionLoss, B>::run(context, logits, kept, scale, dlogits);
}

/// The router z-loss: the sum over rows of logsumexp(logits)^2, not scaled. Adds scale * its
/// gradient to dlogits. Both [n, depths].
template <Backend B>
[[nodiscard]] double router_z_loss(Context<B>& context, ConstMatrixView<B> logits, double scale,
                                   MatrixView<B> dlogits) {
    expect_extents("router_z_loss", "dlogits", dlogits, logits.extents());
    return Kernel<op::RouterZLoss, B>::run(context, logits, scale, dlogits);
}

/// The balancing loss of token-choice: sum_i P_i f_i, P_i the mean of gate[:, i] and f_i =
/// depths * (fraction of rows with best == i), which carries no gradient. Adds scale * its
/// gradient to dgate. gate, dgate [n, depths], best [n].
template <Backend B>
[[nodiscard]] double balancing_loss(Context<B>& context, ConstMatrixView<B> gate,
                                    ConstIndexView<B> best, double scale, MatrixView<B> dgate) {
    expect_extents("balancing_loss", "best", best, {gate.rows()});
    expect_extents("balancing_loss", "dgate", dgate, gate.extents());
    return Kernel<op::BalancingLoss, B>::run(context, gate, best, scale, dgate);
}

}  // namespace ops
}  // namespace mor
