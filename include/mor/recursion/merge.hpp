// SPDX-License-Identifier: Apache-2.0
//
// How the result y = f(h) of a recursion step joins the stream of hidden states. A router names
// one of these as its Merge. In all of them rows that were not kept pass unchanged.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>

namespace mor {

/// h = f(h). The plain recursive transformer.
struct Replace {
    static constexpr bool uses_weights = false;
    static constexpr bool keeps_input = false;

    /// h [rows, hidden], active [kept] rows of h, y [kept, hidden].
    template <Backend B>
    static void step(Context<B>& context, MatrixView<B> h, ConstIndexView<B> active,
                     ConstMatrixView<B> y, ConstVectorView<B> /*weight*/) {
        ops::scatter_rows<B>(context, y, active, h);
    }
    /// Writes the gradient of y from that of the new h.
    template <Backend B>
    static void result_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                ConstIndexView<B> active, ConstVectorView<B> /*weight*/,
                                MatrixView<B> dy) {
        ops::gather_rows<B>(context, dh, active, dy);
    }
    /// Makes dh the gradient of the old h, given that of the rows that entered f.
    template <Backend B>
    static void input_gradient(Context<B>& context, ConstMatrixView<B> dx, ConstIndexView<B> active,
                               MatrixView<B> dh) {
        ops::scatter_rows<B>(context, dx, active, dh);
    }
};

/// h = h + weight * f(h), each step with its own weight. Expert-choice (paper, section 2.2.1).
struct GateEachStep {
    static constexpr bool uses_weights = true;
    static constexpr bool keeps_input = false;

    template <Backend B>
    static void step(Context<B>& context, MatrixView<B> h, ConstIndexView<B> active,
                     ConstMatrixView<B> y, ConstVectorView<B> weight) {
        ops::scatter_add_rows_weighted<B>(context, y, active, weight, h);
    }
    template <Backend B>
    static void result_gradient(Context<B>& context, ConstMatrixView<B> dh,
                                ConstIndexView<B> active, ConstVectorView<B> weight,
                                MatrixView<B> dy) {
        ops::gather_rows_weighted<B>(context, dh, active, weight, dy);
    }
    template <Backend B>
    static void input_gradient(Context<B>& context, ConstMatrixView<B> dx, ConstIndexView<B> active,
                               MatrixView<B> dh) {
        ops::scatter_add_rows<B>(context, dx, active, dh);
    }
};

/// Every step replaces; at the end output = input + weight * h, with the weights of step 0.
/// Token-choice (paper, section 2.2.1; the authors' code adds the recursion's input).
struct GateAtExit : Replace {
    static constexpr bool uses_weights = true;
    static constexpr bool keeps_input = true;
};

}  // namespace mor
