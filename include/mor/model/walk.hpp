// SPDX-License-Identifier: Apache-2.0
//
// The walk through the unrolled stack that training, prefill and decoding share: layers before
// the recursion, then step by step select - gather - shared block - scatter, then layers after it.
#pragma once

#include <mor/cache/key_value_cache.hpp>
#include <mor/model/trace.hpp>
#include <mor/ops/gather_scatter.hpp>

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace mor {

template <class A, class B>
    requires(detail::explain_architecture<A, B>()) && Architecture<A, B>
class Model;

/// Called with the hidden states [rows, hidden] after the "embedding", each unshared "layer" and
/// each recursion "step"; index counts unrolled layers or steps.
template <Backend B>
using Observer =
    std::function<void(std::string_view stage, Index index, ConstMatrixView<B> hidden)>;

template <Backend B>
struct ForwardOptions {
    Decision decision = Decision::look_ahead;
    Index training_step = 0;  // from 1 on for schedules that warm up; 0: not training
    Observer<B> observer = {};
};

namespace detail {

/// Routers that read StepView::previous say so with `static constexpr bool uses_previous = true`.
template <class R>
inline constexpr bool uses_previous = requires { requires R::uses_previous; };

/// Keys and values of a pass over whole sequences: they stay in the arena, beside their layer.
template <class A, Backend B>
struct TracedSource {
    Trace<A, B>& trace;
    Index layer;
    Index key_layer;
    const Rows<B>& queries;
    const KeyRanges<B>& own_ranges;

    bool owns() const { return layer == key_layer; }
    void publish(Context<B>& /*context*/, MatrixView<B> keys, MatrixView<B> values) {
        trace.layers[static_cast<std::size_t>(layer)].keys = keys;
        trace.layers[static_cast<std::size_t>(layer)].values = values;
    }
    KeyValues<B> visible(Context<B>& context) {
        const auto& owner = trace.layers[static_cast<std::size_t>(key_layer)];
        return {owner.keys, owner.values,
                owns() ? own_ranges : ops::visible_keys<B>(context, queries, owner.rows)};
    }
};

/// Keys and values of a pass that continues sequences: they go into the cache.
template <Backend B>
struct CachedSource {
    KeyValueCache<B>& cache;
    Index layer;
    Index key_layer;
    const Rows<B>& queries;

    bool owns() const { return layer == key_layer; }
    void publish(Context<B>& context, MatrixView<B> keys, MatrixView<B> values) {
        cache.append(context, layer, queries, keys, values);
    }
    KeyValues<B> visible(Context<B>& context) { return cache.visible(context, key_layer, queries); }
};

template <class A, Backend B>
class Walk {
    using Router = typename A::Router;
    using Merge = typename Router::Merge;

public:
    /// With a cache the pass keeps nothing for backward; without one it keeps everything.
    Walk(const Model<A, B>& model, Context<B>& context, const ForwardOptions<B>& options,
         KeyValueCache<B>* cache, Trace<A, B>& trace)
        : model_{model}, context_{context}, options_{options}, cache_{cache}, trace_{trace} {}

    /// Changes x [rows, hidden] from embeddings to the final hidden states, in place.
    void run(MatrixView<B> x) {
        const Layout& layout = model_.layout();
        trace_.layers.resize(static_cast<std::size_t>(layout.num_unrolled()));
        trace_.steps.clear();
        observe("embedding", 0, x);
        if constexpr (keeps_every_token<Router>) {
            run_unrouted(0, layout.num_unrolled(), x);
        } else {
            run_unrouted(0, layout.first_step_layer, x);
            run_recursion(x);
            run_unrouted(layout.end_of_recursion(), layout.num_unrolled(), x);
        }
    }

private:
    void observe(std::string_view stage, Index index, ConstMatrixView<B> x) const {
        if (options_.observer) {
            options_.observer(stage, index, x);
        }
    }

    void run_unrouted(Index first, Index last, MatrixView<B> x) {
        const KeyRanges<B> ranges = own_ranges(trace_.rows);
        for (Index layer = first; layer < last; ++layer) {
            run_layer(layer, x, trace_.rows, ranges);
            observe("layer", layer, x);
        }
    }

    KeyRanges<B> own_ranges(const Rows<B>& rows) {
        return cache_ == nullptr ? ops::visible_keys(context_, rows, rows) : KeyRanges<B>{};
    }

    void run_layer(Index layer, MatrixView<B> x, const Rows<B>& rows, const KeyRanges<B>& ranges) {
        auto& record = trace_.layers[static_cast<std::size_t>(layer)];
        const auto& block = model_.block_of(layer);
        const Index key_layer = model_.cache_policy().key_layer(model_.layout(), layer);
        record = {};
        record.rows = rows;
        record.ran = true;
        if (cache_ != nullptr) {
            const typename Arena<typename B::Space>::Scope scope{context_.arena()};
            CachedSource<B> source{*cache_, layer, key_layer, rows};
            block.forward(context_, x, rows.positions, model_.rotary(), source, record.saved);
        } else {
            TracedSource<A, B> source{trace_, layer, key_layer, rows, ranges};
            block.forward(context_, x, rows.positions, model_.rotary(), source, record.saved);
        }
    }

    void run_recursion(MatrixView<B> h) {
        const Layout& layout = model_.layout();
        const IndexView<B> all = context_.indices(h.rows());
        ops::number_rows<B>(context_, all);
        if constexpr (Merge::keeps_input) {
            trace_.entered = copy_of(h);
        }
        StepView<B> next{.rows = trace_.rows, .source = all};
        for (Index step = 0; step < layout.num_steps; ++step) {
            next = run_step(step, h, next);
            observe("step", step, h);
        }
        if constexpr (Merge::keeps_input) {
            trace_.exited = copy_of(h);
            ops::copy<B>(context_, trace_.entered, h);
            ops::scatter_add_rows_weighted<B>(context_, trace_.exited, all,
                                              trace_.steps.front().view.weight, h);
            observe("step", layout.num_steps, h);
        }
    }

    /// Runs one step on the candidates described by `view` (rows, source and previous are set) and
    /// returns the same description of the rows that took it.
    StepView<B> run_step(Index step, MatrixView<B> h, StepView<B> view) {
        const Layout& layout = model_.layout();
        view.step = step;
        view.num_steps = layout.num_steps;
        view.capacity = model_.schedule().capacity(step, layout.num_steps, options_.training_step);
        view.decision = options_.decision;
        view.training_step = options_.training_step;
        view.entered = trace_.rows;
        const Index candidates = view.source.size();
        const MatrixView<B> hidden = context_.matrix(candidates, h.columns());
        ops::gather_rows<B>(context_, h, view.source, hidden);
        view.hidden = hidden;
        view.kept = context_.indices(candidates);
        view.weight = context_.vector(candidates);

        const Index count = select(view);
        const ConstIndexView<B> kept = view.kept.slice(0, count);
        const Rows<B> rows = ops::select_rows<B>(context_, view.rows, kept);
        const IndexView<B> active = context_.indices(count);
        ops::compose_indices<B>(context_, view.source, kept, active);
        const MatrixView<B> result = context_.matrix(count, h.columns());
        ops::gather_rows<B>(context_, hidden, kept, result);
        StepView<B> next{.rows = rows, .source = active};
        if constexpr (uses_previous<Router>) {
            next.previous = copy_of(result);
        }
        run_shared_block(step, result, rows);
        trace_.steps.push_back({view, kept, active, view.weight.slice(0, count), result});
        Merge::template step<B>(context_, h, active, result, view.weight.slice(0, count));
        return next;
    }

    void run_shared_block(Index step, MatrixView<B> x, const Rows<B>& rows) {
        const Layout& layout = model_.layout();
        const KeyRanges<B> ranges = own_ranges(rows);
        for (Index slot = 0; slot < layout.layers_per_step; ++slot) {
            const Index layer = layout.layer_at(step, slot);
            if (rows.size() > 0) {
                run_layer(layer, x, rows, ranges);
            } else {
                trace_.layers[static_cast<std::size_t>(layer)] = {};
            }
        }
    }

    Index select(const StepView<B>& view) {
        if constexpr (LearnedRouter<Router, B>) {
            return model_.router().select(context_, model_.router_weights(), view, trace_.router);
        } else {
            return model_.router().select(context_, view);
        }
    }

    MatrixView<B> copy_of(ConstMatrixView<B> x) {
        const MatrixView<B> copy = context_.matrix(x.rows(), x.columns());
        ops::copy<B>(context_, x, copy);
        return copy;
    }

    const Model<A, B>& model_;
    Context<B>& context_;
    const ForwardOptions<B>& options_;
    KeyValueCache<B>* cache_;
    Trace<A, B>& trace_;
};

}  // namespace detail
}  // namespace mor
