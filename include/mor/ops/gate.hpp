// SPDX-License-Identifier: Apache-2.0
//
// The small functions of routers: gates, their losses, and the gradients of both. They work on
// router logits, one or a few numbers per token.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct SigmoidGate {};
struct SigmoidGateBackward {};
struct SelectionLoss {};
struct SoftmaxGate {};
struct SoftmaxGateBackward {};
struct RouterZLoss {};
struct BalancingLoss {};
struct PickColumn {};
struct PickColumnBackward {};
}  // namespace op

namespace ops {

/// gate = alpha * sigmoid(logits); both [n].
template <Backend B>
void sigmoid_gate(Context<B>& context, ConstVectorView<B> logits, double alpha,
                  VectorView<B> gate) {
    expect_extents("sigmoid_gate", "gate", gate, logits.extents());
    Kernel<op::SigmoidGate, B>::run(context, logits, alpha, gate);
}

/// dlogits[kept[i]] += dgate[i] * alpha * s * (1 - s), s = sigmoid(logits[kept[i]]).
/// dgate, kept [m]; logits, dlogits [n].
template <Backend B>
void sigmoid_gate_backward(Context<B>& context, ConstVectorView<B> logits, double alpha,
                           ConstIndexView<B> kept, ConstVectorView<B> dgate,
                           VectorView<B> dlogits) {
    expect_extents("sigmoid_gate_backward", "dgate", dgate, {kept.size()});
    expect_extents("sigmoid_gate_backward", "dlogits", dlogits, logits.extents());
    Kernel<op::SigmoidGateBackward, B>::run(context, logits, alpha, kept, dgate, dlogits);
}

/// The auxiliary loss of expert-choice: the sum over n of the binary cross-entropy between logits
/// and "is kept", in nats, not scaled. Adds scale * its gradient to dlogits.
/// logits, dlogits [n]; kept [m] ascending.
template <Backend B>
[[nodiscard]] double selection_loss(Context<B>& context, ConstVectorView<B> logits,
                                    ConstIndexView<B> kept, double scale, VectorView<B> dlogits) {
    expect_extents("selection_loss", "dlogits", dlogits, logits.extents());
    return Kernel<op::SelectionLoss, B>::run(context, logits, kept, scale, dlogits);
}

/// gate = alpha * softmax(logits) by row, and the index of each row's largest gate (ties to the
/// lower index). logits, gate [n, depths], best [n].
template <Backend B>
void softmax_gate(Context<B>& context, ConstMatrixView<B> logits, double alpha, MatrixView<B> gate,
                  IndexView<B> best) {
    expect_extents("softmax_gate", "gate", gate, logits.extents());
    expect_extents("softmax_gate", "best", best, {logits.rows()});
    Kernel<op::SoftmaxGate, B>::run(context, logits, alpha, gate, best);
}

/// dlogits += gradient of gate through the softmax. All [n, depths].
template <Backend B>
void softmax_gate_backward(Context<B>& context, ConstMatrixView<B> gate, double alpha,
                           ConstMatrixView<B> dgate, MatrixView<B> dlogits) {
    expect_extents("softmax_gate_backward", "dgate", dgate, gate.extents());
    expect_extents("softmax_gate_backward", "dlogits", dlogits, gate.extents());
    Kernel<op::SoftmaxGateBackward, B>::run(context, gate, alpha, dgate, dlogits);
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

/// out[i] = x[i, column[i]]. x [n, columns], column [n], out [n].
template <Backend B>
void pick_column(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> column,
                 VectorView<B> out) {
    expect_extents("pick_column", "column", column, {x.rows()});
    expect_extents("pick_column", "out", out, {x.rows()});
    Kernel<op::PickColumn, B>::run(context, x, column, out);
}

/// dx[i, column[i]] += dout[i].
template <Backend B>
void pick_column_backward(Context<B>& context, ConstVectorView<B> dout, ConstIndexView<B> column,
                          MatrixView<B> dx) {
    expect_extents("pick_column_backward", "dout", dout, {dx.rows()});
    expect_extents("pick_column_backward", "column", column, {dx.rows()});
    Kernel<op::PickColumnBackward, B>::run(context, dout, column, dx);
}

}  // namespace ops
}  // namespace mor
