// SPDX-License-Identifier: Apache-2.0
//
// How the result y = f(h) of a recursion step joins the stream of hidden states. A router names
// one of these as its Merge. In all of them rows that were not kept pass unchanged.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/rows.hpp>
#include <mor/ops/scale.hpp>

#include <concepts>

namespace mor {

/// What a merge keeps of one pass.
template <Backend B>
struct MergeState {
    ConstIndexView<B> all = {};       // [rows] 0, 1, 2, ...
    ConstVectorView<B> weight = {};   // [rows] the weights of step 0
    MatrixView<B> outer = {};         // [rows, hidden] what the steps do not change
    MatrixView<B> douter = {};        // its gradient
    ConstVectorView<B> dweight = {};  // [rows] gradient of `weight`
};

/// One step's share of a merge: which rows took it, and their weights.
template <Backend B>
struct MergeStep {
    ConstIndexView<B> active;   // [kept] rows of h, distinct
    ConstVectorView<B> weight;  // [kept]
};

/// h = f(h). The plain recursive transformer. Other merges inherit it and replace what differs.
struct Replace {
    static constexpr bool uses_weights = false;

    /// Before the first step and after the last. h [rows, hidden].
    template <Backend B>
    static void begin(Context<B>& /*context*/, MatrixView<B> /*h*/, MergeState<B>& /*state*/) {}
    template <Backend B>
    static void finish(Context<B>& /*context*/, MatrixView<B> /*h*/, MergeState<B>& /*state*/) {}

    /// Joins y [kept, hidden] to h.
    template <Backend B>
    static void step(Context<B>& context, MatrixView<B> h, const MergeState<B>& /*state*/,
                     const MergeStep<B>& step, ConstMatrixView<B> y) {
        ops::scatter_rows<B>(context, y, step.active, h);
    }

    /// The reverse of finish() and begin(), on the gradient of h.
    template <Backend B>
    static void finish_backward(Context<B>& /*context*/, MatrixView<B> /*dh*/,
                                MergeState<B>& /*state*/) {}
    template <Backend B>
    static void begin_backward(Context<B>& /*context*/, MatrixView<B> /*dh*/,
                               MergeState<B>& /*state*/) {}

    /// Writes the gradient of y [kept, hidden] from that of the new h.
    template <Backend B>
    static void result_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                const MergeState<B>& /*state*/, const MergeStep<B>& step,
                                MatrixView<B> dy) {
        ops::gather_rows<B>(context, dh, step.active, dy);
    }
    /// The gradient of the weights written in this step; empty if there is none.
    template <Backend B>
    static ConstVectorView<B> weight_gradient(Context<B>& /*context*/, ConstMatrixView<B> /*dh*/,
                                              const MergeState<B>& state,
                                              const MergeStep<B>& /*step*/,
                                              ConstMatrixView<B> /*y*/) {
        return state.dweight;
    }
    /// Makes dh the gradient of the old h, given that of the rows that entered f.
    template <Backend B>
    static void input_gradient(Context<B>& context, ConstMatrixView<B> dx, const MergeStep<B>& step,
                               MatrixView<B> dh) {
        ops::scatter_rows<B>(context, dx, step.active, dh);
    }
};

/// h = h + weight * f(h), each step with its own weight. Expert-choice (paper, section 2.2.1).
struct GateEachStep : Replace {
    static constexpr bool uses_weights = true;

    template <Backend B>
    static void step(Context<B>& context, MatrixView<B> h, const MergeState<B>& /*state*/,
                     const MergeStep<B>& step, ConstMatrixView<B> y) {
        ops::scatter_add_rows_weighted<B>(context, y, step.active, step.weight, h);
    }
    template <Backend B>
    static void result_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                const MergeState<B>& /*state*/, const MergeStep<B>& step,
                                MatrixView<B> dy) {
        ops::gather_rows_weighted<B>(context, dh, step.active, step.weight, dy);
    }
    template <Backend B>
    static ConstVectorView<B> weight_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                              const MergeState<B>& /*state*/,
                                              const MergeStep<B>& step, ConstMatrixView<B> y) {
        const VectorView<B> dots = context.vector(step.active.size());
        ops::row_dot<B>(context, dh, step.active, y, dots);
        return dots;
    }
    template <Backend B>
    static void input_gradient(Context<B>& context, ConstMatrixView<B> dx, const MergeStep<B>& step,
                               MatrixView<B> dh) {
        ops::scatter_add_rows<B>(context, dx, step.active, dh);
    }
};

/// Every step replaces; at the end output = input + weight * h, with the weights of step 0.
/// Token-choice (paper, section 2.2.1; the authors' code adds the recursion's input).
struct GateAtExit : Replace {
    static constexpr bool uses_weights = true;

    template <Backend B>
    static void begin(Context<B>& context, MatrixView<B> h, MergeState<B>& state) {
        state.outer = context.matrix(h.rows(), h.columns());  // the input, and then what exits
        ops::copy<B>(context, h, state.outer);
    }
    template <Backend B>
    static void finish(Context<B>& context, MatrixView<B> h, MergeState<B>& state) {
        const MatrixView<B> exited = context.matrix(h.rows(), h.columns());
        ops::copy<B>(context, h, exited);
        ops::copy<B>(context, state.outer, h);
        ops::scatter_add_rows_weighted<B>(context, exited, state.all, state.weight, h);
        state.outer = exited;
    }
    template <Backend B>
    static void finish_backward(Context<B>& context, MatrixView<B> dh, MergeState<B>& state) {
        state.douter = context.matrix(dh.rows(), dh.columns());
        ops::copy<B>(context, dh, state.douter);
        const VectorView<B> dots = context.vector(dh.rows());
        ops::row_dot<B>(context, dh, state.all, state.outer, dots);
        state.dweight = dots;
        ops::gather_rows_weighted<B>(context, state.douter, state.all, state.weight, dh);
    }
    template <Backend B>
    static void begin_backward(Context<B>& context, MatrixView<B> dh, MergeState<B>& state) {
        ops::scale<B>(context, state.douter, 1.0, dh, Write::accumulate);
    }
};

/// Every step replaces; the output is the sum over steps of weight * f(h). A halting router makes
/// the weights of each row add up to 1 (Graves 2016, "Adaptive Computation Time", equation 13).
struct WeightedMean : Replace {
    static constexpr bool uses_weights = true;

    template <Backend B>
    static void begin(Context<B>& context, MatrixView<B> h, MergeState<B>& state) {
        state.outer = context.zero_matrix(h.rows(), h.columns());
    }
    template <Backend B>
    static void step(Context<B>& context, MatrixView<B> h, const MergeState<B>& state,
                     const MergeStep<B>& step, ConstMatrixView<B> y) {
        ops::scatter_rows<B>(context, y, step.active, h);
        ops::scatter_add_rows_weighted<B>(context, y, step.active, step.weight, state.outer);
    }
    template <Backend B>
    static void finish(Context<B>& context, MatrixView<B> h, MergeState<B>& state) {
        ops::copy<B>(context, state.outer, h);
    }
    template <Backend B>
    static void finish_backward(Context<B>& context, MatrixView<B> dh, MergeState<B>& state) {
        state.douter = context.matrix(dh.rows(), dh.columns());
        ops::copy<B>(context, dh, state.douter);
        ops::scale<B>(context, dh, 0.0, dh);
    }
    template <Backend B>
    static void result_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                const MergeState<B>& state, const MergeStep<B>& step,
                                MatrixView<B> dy) {
        const MatrixView<B> later = context.matrix(dy.rows(), dy.columns());
        ops::gather_rows_weighted<B>(context, state.douter, step.active, step.weight, dy);
        ops::gather_rows<B>(context, dh, step.active, later);
        ops::scale<B>(context, later, 1.0, dy, Write::accumulate);
    }
    template <Backend B>
    static ConstVectorView<B> weight_gradient(Context<B>& context, ConstMatrixView<B> /*dh*/,
                                              const MergeState<B>& state, const MergeStep<B>& step,
                                              ConstMatrixView<B> y) {
        const VectorView<B> dots = context.vector(step.active.size());
        ops::row_dot<B>(context, state.douter, step.active, y, dots);
        return dots;
    }
};

/// What a router may name as its Merge.
template <class M, class B>
concept MergePolicy = requires(Context<B>& context, MatrixView<B> h, ConstMatrixView<B> y,
                               MergeState<B>& state, const MergeStep<B>& step) {
    { M::uses_weights } -> std::convertible_to<bool>;
    M::template begin<B>(context, h, state);
    M::template step<B>(context, h, state, step, y);
    M::template finish<B>(context, h, state);
    M::template finish_backward<B>(context, h, state);
    M::template result_gradient<B>(context, y, state, step, h);
    {
        M::template weight_gradient<B>(context, y, state, step, y)
    } -> std::convertible_to<ConstVectorView<B>>;
    M::template input_gradient<B>(context, y, step, h);
    M::template begin_backward<B>(context, h, state);
};

}  // namespace mor
