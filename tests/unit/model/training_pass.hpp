// SPDX-License-Identifier: Apache-2.0
//
// One forward and backward pass, and the number it is the gradient of.
#pragma once

#include <mor/model/backward.hpp>
#include <mor/train/language_model_loss.hpp>

#include <unit/model/small_model.hpp>

#include <algorithm>
#include <vector>

namespace mor::test {

/// Adds to the model's gradients; returns the mean cross-entropy of the targets that are not
/// ignored plus the router's losses times their coefficients. The head takes the rows in pieces.
template <class A, Backend B>
double training_pass(Model<A, B>& model, Context<B>& context, Trace<A, B>& trace,
                     const Sequences& sequences, const std::vector<TokenId>& targets,
                     double loss_scale = 1, ForwardOptions options = {}) {
    options.computes_logits = false;
    model.forward(context, sequences.batch(), options, trace);
    const auto count =
        std::count_if(targets.begin(), targets.end(), [](TokenId t) { return t >= 0; });
    const double scale = 1.0 / static_cast<double>(count);
    const MatrixView<B> dnormed = context.matrix(trace.normed.rows(), trace.normed.columns());
    const SumView<B> sum = context.arena().template make_zero<double, 1>({1});
    constexpr Index rows_at_once = 16;
    language_model_loss(model, context, trace, targets, scale, sum, dnormed, rows_at_once);
    backward_below_head(model, context, trace, dnormed, {.loss_scale = loss_scale});
    double loss = mor::to_host(sum).front();
    for (const LossTerm& term : trace.losses.to_host()) {
        loss += term.coefficient * term.value;
    }
    return loss;
}

/// Random targets, every fifth of them ignored.
[[nodiscard]] inline std::vector<TokenId> random_targets(const Sequences& sequences,
                                                         Index vocabulary) {
    Random random{17};
    auto targets =
        testing::uniform_integers<TokenId>(random, std::ssize(sequences.tokens), 0, vocabulary);
    for (std::size_t i = 3; i < targets.size(); i += 5) {
        targets[i] = -1;
    }
    return targets;
}

}  // namespace mor::test
