// SPDX-License-Identifier: Apache-2.0
//
// The gradient of Model::forward: the walk in reverse. Included for training only.
#pragma once

#include <mor/model/model.hpp>

namespace mor {

struct BackwardOptions {
    double loss_scale = 1;  // factor on the router's own losses: 1 / micro-batches of an update
    Write losses = Write::overwrite;  // accumulate: trace.losses keep those of the pass before
};

namespace detail {

template <class A, Backend B>
class BackwardWalk {
    using Router = typename A::Router;
    using Merge = typename Router::Merge;
    using Injection = typename A::Injection;

public:
    BackwardWalk(Model<A, B>& model, Context<B>& context, const BackwardOptions& options,
                 Trace<A, B>& trace)
        : model_{model}, context_{context}, options_{options}, trace_{trace} {}

    /// Changes dx [rows, hidden] from the gradient of the final hidden states to that of the
    /// embeddings, in place.
    void run(MatrixView<B> dx) {
        const Layout& layout = model_.layout();
        if (trace_.steps.empty()) {  // the pass took the stack as one run of layers
            run_layers(0, layout.num_unrolled(), dx);
        } else {
            run_layers(layout.end_of_recursion(), layout.num_unrolled(), dx);
            run_recursion(dx);
            run_layers(0, layout.first_step_layer, dx);
        }
    }

private:
    using Step = typename Trace<A, B>::Step;

    void run_layers(Index first, Index last, MatrixView<B> dx) {
        for (Index layer = last - 1; layer >= first; --layer) {
            run_layer(layer, dx);
        }
    }

    void run_layer(Index layer, MatrixView<B> dx) {
        const auto& record = trace_.at(layer);
        if (!record.ran) {
            return;
        }
        const KeyUse& use = model_.key_uses()[static_cast<std::size_t>(layer)];
        TracedGradients<A, B> source{context_, trace_, use,
                                     model_.config().num_kv_heads * model_.config().head_dim};
        const LayerInput<B> input{record.rows.positions, model_.rotary(), model_.use_of(layer)};
        model_.block_of(layer).backward(context_, record.saved, input, source, dx);
    }

    void run_recursion(MatrixView<B> dh) {
        const Layout& layout = model_.layout();
        if constexpr (!Injection::is_empty) {
            dentered_ = context_.zero_matrix(dh.rows(), dh.columns());
        }
        Merge::template finish_backward<B>(context_, dh, trace_.merge);
        for (Index step = layout.num_steps - 1; step >= 0; --step) {
            if (step + 1 < layout.num_steps) {
                const Index last = layout.layer_at(step, layout.layers_per_step - 1);
                run_layers(last + 1, last + 1 + layout.gap, dh);
            }
            run_step(trace_.steps[static_cast<std::size_t>(step)], dh);
        }
        Merge::template begin_backward<B>(context_, dh, trace_.merge);
        if constexpr (!Injection::is_empty) {
            ops::scale<B>(context_, dentered_, 1.0, dh, Write::accumulate);
        }
    }

    void run_step(Step& step, MatrixView<B> dh) {
        const MergeStep<B> merged{step.active, step.weight};
        const MatrixView<B> dresult = context_.matrix(step.kept.size(), dh.columns());
        Merge::template result_gradient<B>(context_, dh, trace_.merge, merged, dresult);
        const ConstVectorView<B> dweight =
            Merge::template weight_gradient<B>(context_, dh, trace_.merge, merged, step.result);
        if (step.ran_all) {
            run_block_of_all(step, dresult, dh);
        } else {
            run_block(step, step.active, dresult);
            Merge::template input_gradient<B>(context_, dresult, merged, dh);
        }
        if constexpr (LearnedRouter<Router, B>) {
            const MatrixView<B> dhidden =
                context_.zero_matrix(step.view.num_candidates(), dh.columns());
            model_.router().backward(
                context_, model_.router_weights(), step.view, step.kept, trace_.router,
                StepGradient<B>{dweight, dhidden, options_.loss_scale, &trace_.losses});
            ops::scatter_add_rows<B>(context_, dhidden, step.view.source, dh);
        }
    }

    /// The shared block and what was injected, for the rows `active` of the recursion's input.
    void run_block(Step& step, ConstIndexView<B> active, MatrixView<B> dx) {
        const Layout& layout = model_.layout();
        const Index first = layout.layer_at(step.view.step, 0);
        run_layers(first, first + layout.layers_per_step, dx);
        if constexpr (!Injection::is_empty) {
            const MatrixView<B> dentered = context_.zero_matrix(dx.rows(), dx.columns());
            model_.injection_weights().backward(context_, step.view.step, step.entered,
                                                step.injection, dentered, dx);
            ops::scatter_add_rows<B>(context_, dentered, active, dentered_);
        }
    }

    /// A step whose block ran for all candidates: the others passed, but gave keys and values.
    void run_block_of_all(Step& step, MatrixView<B> dresult, MatrixView<B> dh) {
        const MatrixView<B> dx = context_.zero_matrix(step.view.num_candidates(), dh.columns());
        ops::scatter_rows<B>(context_, dresult, step.kept, dx);
        run_block(step, step.view.source, dx);
        ops::gather_rows<B>(context_, dx, step.kept, dresult);
        const MatrixView<B> none = context_.zero_matrix(step.kept.size(), dh.columns());
        ops::scatter_rows<B>(context_, none, step.kept, dx);
        Merge::template input_gradient<B>(context_, dresult, {step.active, step.weight}, dh);
        ops::scatter_add_rows<B>(context_, dx, step.view.source, dh);
    }

    Model<A, B>& model_;
    Context<B>& context_;
    const BackwardOptions& options_;
    Trace<A, B>& trace_;
    MatrixView<B> dentered_{};  // [rows, hidden] gradient of what is injected
};

}  // namespace detail

/// Adds the gradient of a loss to every parameter below the head, given that of trace.normed,
/// [rows, hidden], of the pass that `trace` holds. The router's own losses are added to the
/// objective and reported in trace.losses. Once for each forward pass: the trace is used up. Throws
/// ShapeError if dnormed has another shape than trace.normed.
template <class A, Backend B>
void backward_below_head(Model<A, B>& model, Context<B>& context, Trace<A, B>& trace,
                         ConstMatrixView<B> dnormed, const BackwardOptions& options = {}) {
    if (options.losses == Write::overwrite) {
        trace.losses.clear();
    }
    for (auto& layer : trace.layers) {
        layer.gradients = {};
    }
    const MatrixView<B> dx = context.zero_matrix(trace.normed.rows(), trace.normed.columns());
    model.norm().backward(context, trace.norm, dnormed, dx);
    detail::BackwardWalk<A, B>{model, context, options, trace}.run(dx);
    model.embedding().embed_backward(context, trace.tokens, dx);
}

/// The same from the gradient of the logits, [rows, vocabulary], and for the head too; the pass
/// need not have computed logits. Throws ShapeError if dlogits has another shape.
template <class A, Backend B>
void backward(Model<A, B>& model, Context<B>& context, Trace<A, B>& trace,
              ConstMatrixView<B> dlogits, const BackwardOptions& options = {}) {
    const MatrixView<B> dnormed = context.matrix(trace.normed.rows(), trace.normed.columns());
    model.embedding().project_backward(context, trace.normed, dlogits, dnormed);
    backward_below_head(model, context, trace, dnormed, options);
}

}  // namespace mor
