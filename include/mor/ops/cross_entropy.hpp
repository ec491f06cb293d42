// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy of a softmax over the vocabulary, and its gradient in the same pass.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct CrossEntropy {};
}  // namespace op

namespace ops {

/// Adds factor * loss to sum [1], where the loss is the sum over rows with target >= 0 of
/// -log softmax(logits)[target], in nats. Writes dlogits = scale * (softmax(logits) -
/// onehot(target)), and 0 in ignored rows; an empty dlogits skips the gradient.
/// logits, dlogits [rows, vocabulary] (may alias), targets [rows], each below the vocabulary.
template <Backend B, ProductOutput<B> DLogits = MatrixView<B>>
void cross_entropy(Context<B>& context, ConstMatrixView<B> logits, ConstTokenView<B> targets,
                   double scale, DLogits dlogits, double factor, SumView<B> sum) {
    expect_extents("cross_entropy", "sum", sum, {1});
    expect_extents("cross_entropy", "targets", targets, {logits.rows()});
    if (!dlogits.empty()) {
        expect_extents("cross_entropy", "dlogits", dlogits, logits.extents());
    }
    Kernel<op::CrossEntropy, B>::run(context, logits, targets, scale, dlogits, factor, sum);
}

}  // namespace ops
}  // namespace mor
