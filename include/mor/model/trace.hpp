// SPDX-License-Identifier: Apache-2.0
//
// Trace: what one pass leaves behind. The backward pass consumes it; tools read decisions from it.
#pragma once

#include <mor/layers/key_values.hpp>
#include <mor/layers/rms_norm.hpp>
#include <mor/model/architecture.hpp>
#include <mor/model/rows_on_host.hpp>
#include <mor/recursion/step.hpp>

#include <span>
#include <vector>

namespace mor {

/// A packed batch in host memory: sequences one after another, no padding.
struct Batch {
    std::span<const TokenId> tokens;  // [rows]
    std::span<const Index> lengths;   // [sequences], their sum is rows
};

namespace detail {

struct NoWeights {};
struct NoRecord {};

template <class R, Backend B>
struct RouterState {
    using Weights = NoWeights;
    using Record = NoRecord;
};
template <class R, Backend B>
    requires LearnedRouter<R, B>
struct RouterState<R, B> {
    using Weights = typename R::template Weights<B>;
    using Record = typename R::template Record<B>;
};

}  // namespace detail

template <class A, Backend B>
using InjectionWeights = typename A::Injection::template Weights<B>;

/// Views into the context's arena: valid until the next pass with the same context.
/// Reusing one Trace for many passes keeps its vectors' memory.
template <class A, Backend B>
struct Trace {
    struct Layer {
        typename BlockOf<A, B>::Saved saved;
        Rows<B> rows;              // that passed through the layer
        ConstIndexView<B> places;  // which rows of the recursion's input they are
        bool ran = false;          // false if no row was left
        ActivationView<B> keys;    // what it attended to, if it computed any of it
        ActivationView<B> values;
        KeyValueGradients<B> gradients;  // of its own keys and values, once backward needs them
    };
    struct Step {
        StepView<B> view;          // what the router saw
        ConstIndexView<B> kept;    // candidates that took the step
        ConstIndexView<B> active;  // the same as rows of the recursion's input
        ConstVectorView<B> weight;
        MatrixView<B> result;             // [kept, hidden] of the shared block
        ConstMatrixView<B> entered = {};  // [kept, hidden] for the injection
        typename InjectionWeights<A, B>::Saved injection = {};
        bool ran_all = false;  // the block ran for all candidates, not only for the kept ones
    };

    Layer& at(Index layer) { return layers[static_cast<std::size_t>(layer)]; }

    /// What a pass makes out in host memory, where Rows look at some of it.
    struct Host {
        std::vector<Index> offsets;      // [sequences + 1]
        std::vector<Index> positions;    // [rows]
        std::vector<Index> wanted;       // rows whose logits are wanted, if not all
        std::vector<Index> source;       // rows that took a step; then those of them wanted
        std::vector<Index> left;         // which of the former the latter are
        detail::RowsOnHost wanted_rows;  // of the wanted rows
        detail::StepRowsOnHost step_rows;
    };

    ConstTokenView<B> tokens;
    Rows<B> rows;
    std::vector<Layer> layers;  // [unrolled layers]
    std::vector<Step> steps;    // [recursion steps]
    typename detail::RouterState<typename A::Router, B>::Record router;
    MergeState<B> merge;
    ConstMatrixView<B> entered;  // hidden states entering the recursion, if they are injected
    typename RmsNorm<B>::Saved norm;
    ActivationView<B> normed;  // [rows, hidden]
    MatrixView<B> logits;      // [rows, vocabulary], or [sequences, vocabulary] for last rows only,
                               // or empty if the pass ends before the head
    LossTerms<B> losses;       // of the router, of the last backward pass
    Host host;
};

/// How many recursion steps each row took, [rows]. Zero for every row when nothing is routed.
template <class A, Backend B>
[[nodiscard]] std::vector<Index> token_depths(const Trace<A, B>& trace) {
    std::vector<Index> depths(static_cast<std::size_t>(trace.rows.size()), 0);
    for (const auto& step : trace.steps) {
        for (const Index row : to_host(step.active)) {
            ++depths[static_cast<std::size_t>(row)];
        }
    }
    return depths;
}

}  // namespace mor
