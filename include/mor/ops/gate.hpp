// SPDX-License-Identifier: Apache-2.0
//
// Gates: what becomes of router logits, one or a few numbers a row, before they weight anything.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

#include <array>
#include <string_view>

namespace mor {

/// `softmax` works on a row as a whole, the others on each number.
enum class GateFunction { sigmoid, tanh, identity, softmax };

[[nodiscard]] constexpr std::string_view to_string(GateFunction function) {
    switch (function) {
        case GateFunction::sigmoid:
            return "sigmoid";
        case GateFunction::tanh:
            return "tanh";
        case GateFunction::identity:
            return "identity";
        case GateFunction::softmax:
            break;
    }
    return "softmax";
}
[[nodiscard]] constexpr std::array<GateFunction, 4> enum_values(GateFunction /*tag*/) {
    return {GateFunction::sigmoid, GateFunction::tanh, GateFunction::identity,
            GateFunction::softmax};
}

namespace op {
struct Gate {};
struct GateBackward {};
struct BestColumn {};
struct PickColumn {};
struct PickColumnBackward {};
}  // namespace op

namespace ops {

/// gate = alpha * function(logits), except that `identity` ignores alpha, as the authors' code
/// does. Both [n, columns].
template <Backend B>
void gate(Context<B>& context, GateFunction function, ConstMatrixView<B> logits, double alpha,
          MatrixView<B> gate) {
    expect_extents("gate", "gate", gate, logits.extents());
    Kernel<op::Gate, B>::run(context, function, logits, alpha, gate);
}

/// dlogits += gradient of the gate, which is given as it came out. All [n, columns].
template <Backend B>
void gate_backward(Context<B>& context, GateFunction function, ConstMatrixView<B> gate,
                   double alpha, ConstMatrixView<B> dgate, MatrixView<B> dlogits) {
    expect_extents("gate_backward", "dgate", dgate, gate.extents());
    expect_extents("gate_backward", "dlogits", dlogits, gate.extents());
    Kernel<op::GateBackward, B>::run(context, function, gate, alpha, dgate, dlogits);
}

/// best[i] = the column j with the largest x[i, j] + bias[j]; ties to the lower one.
/// x [n, columns], bias [columns] or empty, best [n].
template <Backend B>
void best_column(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> bias,
                 IndexView<B> best) {
    expect_extents("best_column", "bias", bias, {bias.empty() ? 0 : x.columns()});
    expect_extents("best_column", "best", best, {x.rows()});
    Kernel<op::BestColumn, B>::run(context, x, bias, best);
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
