// SPDX-License-Identifier: Apache-2.0
//
// The language-model loss and its gradient. The head takes the rows of a pass in pieces: logits of
// all of them would be the largest thing in memory.
#pragma once

#include <mor/model/model.hpp>
#include <mor/ops/cross_entropy.hpp>

#include <algorithm>
#include <concepts>
#include <span>

namespace mor {

/// How many rows have logits at once. Each piece reads the head's weight twice, and reads and
/// writes its gradient: 16 bytes for 6 operations a row. With so many rows that is 1,500 operations
/// a byte, several times what GPUs compute while they read one.
inline constexpr Index head_rows_at_once = 4'096;

namespace detail {

/// Calls use(first, logits [rows, vocabulary], targets [rows]) for piece after piece of the rows of
/// trace.normed; first is the piece's first row.
template <class A, Backend B, class Use>
void for_each_piece(const Model<A, B>& model, Context<B>& context, const Trace<A, B>& trace,
                    std::span<const TokenId> targets, Index rows_at_once, Use&& use) {
    const Index num_rows = trace.normed.rows();
    const Index vocabulary = model.config().vocab_size;
    check<ConfigError>(rows_at_once > 0, "mor::language_model_loss: rows_at_once is ", rows_at_once,
                       ", expected a positive number");
    check<ShapeError>(std::ssize(targets) == num_rows, "mor::language_model_loss: ", targets.size(),
                      " targets for ", num_rows, " rows");
    for (const TokenId target : targets) {
        check<ShapeError>(target < vocabulary, "mor::language_model_loss: target ", target,
                          " is outside the vocabulary of ", vocabulary);
    }
    using Scope = typename Arena<typename B::Space>::Scope;
    const Scope scope{context.arena()};
    const auto uploaded = context.arena().template make<TokenId, 1>({num_rows});
    B::Space::copy_from_host(uploaded.data(), targets.data(), targets.size_bytes());
    for (Index first = 0; first < num_rows; first += rows_at_once) {
        const Index rows = std::min(rows_at_once, num_rows - first);
        const Scope piece{context.arena()};
        const MatrixView<B> logits = context.matrix(rows, vocabulary);
        model.embedding().project(context, trace.normed.slice(first, rows), logits);
        use(first, logits, ConstTokenView<B>{uploaded.slice(first, rows)});
    }
}

/// Where the gradient of logits goes: to their place, as nobody reads them any more, unless
/// products read other numbers.
template <Backend B>
[[nodiscard]] ActivationView<B> gradient_of(Context<B>& context, MatrixView<B> logits) {
    if constexpr (std::same_as<ActivationElement<B>, typename B::Element>) {
        return logits;
    } else {
        return context.activation_matrix(logits.rows(), logits.columns());
    }
}

}  // namespace detail

/// Adds factor * the summed cross-entropy, in nats, of the rows of trace.normed against host
/// targets [rows] to sum [1]; negative targets are ignored. Logits are there for `rows_at_once`
/// rows. Throws ShapeError if there are not as many targets as rows, or one is outside the
/// vocabulary; ConfigError if rows_at_once is not positive.
template <class A, Backend B>
void language_model_loss(const Model<A, B>& model, Context<B>& context, const Trace<A, B>& trace,
                         std::span<const TokenId> targets, double factor, SumView<B> sum,
                         Index rows_at_once = head_rows_at_once) {
    detail::for_each_piece(model, context, trace, targets, rows_at_once,
                           [&](Index /*first*/, MatrixView<B> logits, ConstTokenView<B> of_piece) {
                               ops::cross_entropy<B>(context, logits, of_piece, 0.0, {}, factor,
                                                     sum);
                           });
}

/// The same, and the gradient of what is added: writes that of trace.normed to dnormed
/// [rows, hidden], for backward_below_head, and adds that of the head to its parameter's. Throws
/// like the one above, and ShapeError if dnormed has another shape.
template <class A, Backend B>
void language_model_loss(Model<A, B>& model, Context<B>& context, const Trace<A, B>& trace,
                         std::span<const TokenId> targets, double factor, SumView<B> sum,
                         MatrixView<B> dnormed, Index rows_at_once = head_rows_at_once) {
    ops::expect_extents("language_model_loss", "dnormed", dnormed, trace.normed.extents());
    detail::for_each_piece(
        model, context, trace, targets, rows_at_once,
        [&](Index first, MatrixView<B> logits, ConstTokenView<B> of_piece) {
            const Index rows = logits.rows();
            const ActivationView<B> dlogits = detail::gradient_of(context, logits);
            ops::cross_entropy<B>(context, logits, of_piece, factor, dlogits, factor, sum);
            model.embedding().project_backward(context, trace.normed.slice(first, rows), dlogits,
                                               dnormed.slice(first, rows));
        });
}

}  // namespace mor
