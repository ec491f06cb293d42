// SPDX-License-Identifier: Apache-2.0
//
// The gradient of Model::forward: the walk in reverse. Included for training only.
#pragma once

#include <mor/model/model.hpp>

namespace mor {

struct BackwardOptions {
    double loss_scale = 1;  // factor on the router's own losses: 1 / micro-batches of an update
};

namespace detail {

template <class A, Backend B>
class BackwardWalk {
    using Router = typename A::Router;
    using Merge = typename Router::Merge;

public:
    BackwardWalk(Model<A, B>& model, Context<B>& context, const BackwardOptions& options,
                 Trace<A, B>& trace)
        : model_{model}, context_{context}, options_{options}, trace_{trace} {}

    /// Changes dx [rows, hidden] from the gradient of the final hidden states to that of the
    /// embeddings, in place.
    void run(MatrixView<B> dx) {
        const Layout& layout = model_.layout();
        if constexpr (keeps_every_token<Router>) {
            run_layers(0, layout.num_unrolled(), dx);
        } else {
            run_layers(layout.end_of_recursion(), layout.num_unrolled(), dx);
            run_recursion(dx);
            run_layers(0, layout.first_step_layer, dx);
        }
    }

private:
    void run_layers(Index first, Index last, MatrixView<B> dx) {
        for (Index layer = last - 1; layer >= first; --layer) {
            run_layer(layer, dx);
        }
    }

    void run_layer(Index layer, MatrixView<B> dx) {
        auto& record = trace_.layers[static_cast<std::size_t>(layer)];
        if (!record.ran) {
            return;
        }
        const Index key_layer = model_.cache_policy().key_layer(model_.layout(), layer);
        auto& owner = trace_.layers[static_cast<std::size_t>(key_layer)];
        if (owner.gradients.keys.data() == nullptr) {
            const Index width = model_.config().num_kv_heads * model_.config().head_dim;
            owner.gradients = {context_.zero_matrix(owner.rows.size(), width),
                               context_.zero_matrix(owner.rows.size(), width)};
        }
        model_.block_of(layer).backward(context_, record.saved, model_.rotary(), owner.gradients,
                                        layer == key_layer, dx);
    }

    void run_recursion(MatrixView<B> dh) {
        MatrixView<B> dinput{};
        VectorView<B> dexit_weight{};
        if constexpr (Merge::keeps_input) {
            // output = entered + weight * exited
            const auto& first = trace_.steps.front();
            dinput = context_.matrix(dh.rows(), dh.columns());
            ops::copy<B>(context_, dh, dinput);
            dexit_weight = context_.vector(dh.rows());
            ops::row_dot<B>(context_, dh, first.view.source, trace_.exited, dexit_weight);
            ops::gather_rows_weighted<B>(context_, dinput, first.view.source, first.view.weight,
                                         dh);
        }
        for (auto step = trace_.steps.rbegin(); step != trace_.steps.rend(); ++step) {
            run_step(*step, dexit_weight, dh);
        }
        if constexpr (Merge::keeps_input) {
            ops::scatter_add_rows<B>(context_, dinput, trace_.steps.front().view.source, dh);
        }
    }

    void run_step(typename Trace<A, B>::Step& step, ConstVectorView<B> dexit_weight,
                  MatrixView<B> dh) {
        const Index count = step.kept.size();
        const MatrixView<B> dresult = context_.matrix(count, dh.columns());
        Merge::template result_gradient<B>(context_, dh, step.active, step.weight, dresult);
        ConstVectorView<B> dweight = dexit_weight;
        if constexpr (Merge::uses_weights && !Merge::keeps_input) {
            const VectorView<B> dots = context_.vector(count);
            ops::row_dot<B>(context_, dh, step.active, step.result, dots);
            dweight = dots;
        }
        const Layout& layout = model_.layout();
        const Index first = layout.layer_at(step.view.step, 0);
        run_layers(first, first + layout.layers_per_step, dresult);
        Merge::template input_gradient<B>(context_, dresult, step.active, dh);
        if constexpr (LearnedRouter<Router, B>) {
            const MatrixView<B> dhidden =
                context_.zero_matrix(step.view.num_candidates(), dh.columns());
            model_.router().backward(
                context_, model_.router_weights(), step.view, step.kept, trace_.router,
                StepGradient<B>{dweight, dhidden, options_.loss_scale, &trace_.losses});
            ops::scatter_add_rows<B>(context_, dhidden, step.view.source, dh);
        }
    }

    Model<A, B>& model_;
    Context<B>& context_;
    const BackwardOptions& options_;
    Trace<A, B>& trace_;
};

}  // namespace detail

/// Adds the gradient of a loss to every parameter, given that of the logits, [rows, vocabulary],
/// of the pass that `trace` holds. The router's own losses are added to the objective and
/// reported in trace.losses. Once for each forward pass: the trace is used up. Throws ShapeError if
/// dlogits has another shape than trace.logits.
template <class A, Backend B>
void backward(Model<A, B>& model, Context<B>& context, Trace<A, B>& trace,
              ConstMatrixView<B> dlogits, const BackwardOptions& options = {}) {
    trace.losses.clear();
    for (auto& layer : trace.layers) {
        layer.gradients = {};
    }
    const Index rows = trace.normed.rows();
    const Index hidden = model.config().hidden_size;
    const MatrixView<B> dnormed = context.matrix(rows, hidden);
    model.embedding().project_backward(context, trace.normed, dlogits, dnormed);
    const MatrixView<B> dx = context.zero_matrix(rows, hidden);
    model.norm().backward(context, trace.norm, dnormed, dx);
    detail::BackwardWalk<A, B>{model, context, options, trace}.run(dx);
    model.embedding().embed_backward(context, trace.tokens, dx);
}

}  // namespace mor
