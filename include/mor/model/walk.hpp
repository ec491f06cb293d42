// SPDX-License-Identifier: Apache-2.0
//
// The walk through the unrolled stack that training, prefill and decoding share: layers before
// the recursion, then step by step select - gather - shared block - scatter, then layers after it.
#pragma once

#include <mor/cache/key_value_cache.hpp>
#include <mor/model/depth_limits.hpp>
#include <mor/model/key_value_sources.hpp>
#include <mor/model/observer.hpp>
#include <mor/model/rows_on_host.hpp>
#include <mor/model/trace.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/recursion/depth_control.hpp>

#include <algorithm>
#include <concepts>
#include <span>
#include <vector>

namespace mor {

template <class A, class B>
    requires(detail::explain_architecture<A, B>()) && Architecture<A, B>
class Model;

struct ForwardOptions {
    Decision decision = Decision::look_ahead;
    Index training_step = 0;  // from 1 on for schedules that warm up; 0: not training
    DepthControl depth = {};
    bool computes_logits = true;  // false: the pass ends before the head, with trace.normed
};

namespace detail {

/// Routers that read StepView::previous say so with `static constexpr bool uses_previous = true`.
template <class R>
inline constexpr bool uses_previous = requires { requires R::uses_previous; };

/// Where a pass keeps keys and values, and which of its outputs anyone will look at.
template <Backend B>
struct WalkOptions {
    ForwardOptions forward = {};
    KeyValueCache<B>* cache = nullptr;  // with a cache, nothing is kept for backward
    ConstIndexView<B> wanted = {};  // rows whose output is needed, as trace.host has; empty: all
};

template <class A, Backend B, ObserverPolicy<B> Observer>
class Walk {
    using Router = typename A::Router;
    using Merge = typename Router::Merge;
    using Injection = typename A::Injection;

public:
    Walk(const Model<A, B>& model, Context<B>& context, const WalkOptions<B>& options,
         Trace<A, B>& trace, Observer& observer)
        : model_{model}, context_{context}, options_{options}, trace_{trace}, observer_{observer} {}

    /// Turns x [rows, hidden] from embeddings into final hidden states, in place. Returns them, or
    /// only the wanted ones, [wanted, hidden], if the others were never computed.
    [[nodiscard]] MatrixView<B> run(MatrixView<B> x) {
        const Layout& layout = model_.layout();
        trace_.layers.resize(static_cast<std::size_t>(layout.num_unrolled()));
        trace_.steps.clear();
        trace_.host.step_rows.begin(layout.num_steps, HostBackend<B> ? 0 : x.rows());
        const IndexView<B> all = context_.indices(x.rows());
        ops::number_rows<B>(context_, all);
        trace_.merge = {.all = all};
        notify(EmbeddingSeen<B>{x});
        if constexpr (runs_unrolled<Router, Injection>) {
            if (layout.num_steps == 0 || !options_.forward.depth.has_limit()) {
                return run_unrolled(x);
            }
        }
        run_unrouted(0, layout.first_step_layer, x);
        run_recursion(x);
        run_unrouted(layout.end_of_recursion(), layout.num_unrolled(), x);
        return x;
    }

private:
    template <class Seen>
    void notify(const Seen& seen) {
        if constexpr (std::invocable<Observer&, const Seen&>) {
            observer_(seen);
        }
    }

    /// All layers for all rows; but once nothing computes keys any more, only for wanted rows.
    MatrixView<B> run_unrolled(MatrixView<B> x) {
        const Index end = model_.layout().num_unrolled();
        if (!may_trim()) {
            run_unrouted(0, end, x);
            return x;
        }
        Index reading = end;
        while (!key_use(reading - 1).computes()) {
            --reading;
        }
        run_unrouted(0, reading, x);
        const MatrixView<B> wanted = context_.matrix(options_.wanted.size(), x.columns());
        ops::gather_rows<B>(context_, x, options_.wanted, wanted);
        const Rows<B> rows = known_rows<B>(context_, trace_.rows, options_.wanted,
                                           trace_.host.wanted, trace_.host.wanted_rows);
        for (Index layer = reading; layer < end; ++layer) {
            run_layer(layer, wanted, rows, {}, options_.wanted);
        }
        return wanted;
    }

    void run_unrouted(Index first, Index last, MatrixView<B> x) {
        const KeyRanges<B> ranges = first < last ? own_ranges(trace_.rows) : KeyRanges<B>{};
        for (Index layer = first; layer < last; ++layer) {
            run_layer(layer, x, trace_.rows, ranges, trace_.merge.all);
        }
    }

    /// Whether outputs that nobody wants may be left out. Only without backward.
    [[nodiscard]] bool may_trim() const {
        return options_.cache != nullptr && options_.wanted.data() != nullptr;
    }
    [[nodiscard]] KeyUse key_use(Index layer) const {
        return model_.key_uses()[static_cast<std::size_t>(layer)];
    }

    KeyRanges<B> own_ranges(const Rows<B>& rows) {
        return options_.cache == nullptr ? ops::visible_keys(context_, rows, rows) : KeyRanges<B>{};
    }

    void run_layer(Index layer, MatrixView<B> x, const Rows<B>& rows, const KeyRanges<B>& ranges,
                   ConstIndexView<B> places) {
        auto& record = trace_.at(layer);
        record = {};
        if (rows.size() == 0) {
            notify(LayerSeen<B>{layer, model_.layout().step_of(layer), rows, x});
            return;
        }
        record.rows = rows;
        record.places = places;
        record.ran = true;
        const KeyUse use = key_use(layer);
        if (options_.cache != nullptr) {
            const typename Arena<typename B::Space>::Scope scope{context_.arena()};
            run_block(layer, x, rows, CachedSource<B>{*options_.cache, use, rows}, record);
        } else {
            run_block(layer, x, rows, TracedSource<A, B>{trace_, use, rows, ranges, places},
                      record);
        }
    }

    template <KeyValueSource<B> Source>
    void run_block(Index layer, MatrixView<B> x, const Rows<B>& rows, Source source,
                   typename Trace<A, B>::Layer& record) {
        const LayerInput<B> input{rows.positions, model_.rotary(), model_.use_of(layer)};
        model_.block_of(layer).forward(context_, x, input, source, record.saved);
        const ModelConfig& config = model_.config();
        const Index entry_bytes = 2 * config.num_kv_heads * config.head_dim *
                                  static_cast<Index>(sizeof(ActivationElement<B>));
        if constexpr (std::invocable<Observer&, const LayerSeen<B>&>) {
            observer_(LayerSeen<B>{layer, model_.layout().step_of(layer), rows, x,
                                   ops::count_pairs(context_, source.shown),
                                   source.stored * entry_bytes});
        }
    }

    void run_recursion(MatrixView<B> h) {
        const Layout& layout = model_.layout();
        if constexpr (!Injection::is_empty) {
            trace_.entered = copy_of(h);
        }
        Merge::template begin<B>(context_, h, trace_.merge);
        const StepView<B> everything{.rows = trace_.rows,
                                     .source = trace_.merge.all,
                                     .host_source = trace_.host.step_rows.entered};
        StepView<B> next = everything;
        for (Index step = 0; step < layout.num_steps; ++step) {
            if constexpr (reconsiders_every_token<Router>) {
                next = everything;
            }
            next = run_step(step, h, next);
            if (step + 1 < layout.num_steps) {
                const Index last = layout.layer_at(step, layout.layers_per_step - 1);
                run_unrouted(last + 1, last + 1 + layout.gap, h);
            }
            if (step == 0 && may_trim() && nothing_computes_keys_from(layout.layer_at(1, 0))) {
                next = only_wanted(next);
            }
        }
        trace_.merge.weight = trace_.steps.front().view.weight;
        Merge::template finish<B>(context_, h, trace_.merge);
        notify(RecursionSeen<B>{h});
    }

    /// Runs one step on the candidates described by `view` (rows, source and previous are set) and
    /// returns the same description of the rows that took it.
    StepView<B> run_step(Index step, MatrixView<B> h, StepView<B> view) {
        describe(step, h, view);
        notify(PhaseSeen<B>{step, StepPhase::gather});
        const Index count = limit_depth(view, select(view));
        notify(PhaseSeen<B>{step, StepPhase::select});
        const ConstIndexView<B> kept = view.kept.slice(0, count);
        const Rows<B> rows =
            kept_rows<B>(context_, view, kept, options_.cache != nullptr, trace_.host.step_rows);
        const IndexView<B> active = context_.indices(count);
        ops::compose_indices<B>(context_, view.source, kept, active);
        auto& record = trace_.steps.emplace_back();
        record.view = view;
        record.view.host_counts = record.view.host_kept = nullptr;  // written anew by the next step
        record.kept = kept;
        record.active = active;
        record.weight = view.weight.slice(0, count);
        record.ran_all =
            shares_first_step<typename A::Cache> && step == 0 && count < view.num_candidates();

        notify(PhaseSeen<B>{step, StepPhase::compact});

        StepView<B> next{.rows = rows,
                         .source = active,
                         .host_source = known_source<B>(view, kept, trace_.host.step_rows)};
        if constexpr (uses_previous<Router>) {
            const MatrixView<B> previous = context_.matrix(count, h.columns());
            ops::gather_rows<B>(context_, view.hidden, kept, previous);
            next.previous = previous;
        }
        const MatrixView<B> result = context_.matrix(count, h.columns());
        if (record.ran_all) {
            const MatrixView<B> x = copy_of(view.hidden);
            notify(PhaseSeen<B>{step, StepPhase::gather});
            inject(step, record, view.source, x);
            run_shared_block(step, x, view.rows, view.source);
            ops::gather_rows<B>(context_, x, kept, result);
        } else {
            ops::gather_rows<B>(context_, view.hidden, kept, result);
            notify(PhaseSeen<B>{step, StepPhase::gather});
            inject(step, record, active, result);
            run_shared_block(step, result, rows, active);
        }
        notify(PhaseSeen<B>{step, StepPhase::block});
        record.result = result;
        Merge::template step<B>(context_, h, trace_.merge, {active, record.weight}, result);
        notify(PhaseSeen<B>{step, StepPhase::merge});
        notify(StepSeen<B>{view, kept, active, record.weight, h, scores_of(step)});
        return next;
    }

    ConstMatrixView<B> scores_of(Index step) const {
        if constexpr (requires { trace_.router.scores_of(step); }) {
            return trace_.router.scores_of(step);
        } else {
            return {};
        }
    }

    /// Fills in what the router sees.
    void describe(Index step, ConstMatrixView<B> h, StepView<B>& view) {
        const Index num_steps = model_.layout().num_steps;
        const ForwardOptions& forward = options_.forward;
        view.step = step;
        view.num_steps = num_steps;
        view.capacity = model_.schedule().capacity(step, num_steps, forward.training_step);
        view.decision = forward.decision;
        view.training_step = forward.training_step;
        view.forced_depth = forward.depth.forced_depth;
        view.threshold_offset = forward.depth.threshold_offset;
        const double most = step == 0 ? 1.0 : trace_.steps.back().view.capacity;
        check<ConfigError>(view.capacity > 0 && view.capacity <= most, "mor: schedule ",
                           A::Schedule::name, ": the capacity of step ", step, " is ",
                           view.capacity, ", expected a number above 0 and at most ", most);
        view.is_last = step + 1 >= std::min(num_steps, forward.depth.max_depth) ||
                       step + 1 == view.forced_depth;
        view.is_last_of = last_steps(context_, forward.depth, step, view.rows);
        view.entered = trace_.rows;
        const Index candidates = view.source.size();
        const MatrixView<B> hidden = context_.matrix(candidates, h.columns());
        ops::gather_rows<B>(context_, h, view.source, hidden);
        view.hidden = hidden;
        view.kept = context_.indices(candidates);
        view.weight = context_.vector(candidates);
        trace_.host.step_rows.forget_decision();
        view.host_counts = &trace_.host.step_rows.counts;
        view.host_kept = &trace_.host.step_rows.kept;
    }

    Index select(const StepView<B>& view) {
        const Index count = ask_router(view);
        check<ShapeError>(count >= 0 && count <= view.num_candidates(), "mor: router ",
                          Router::name, " kept ", count, " of ", view.num_candidates(),
                          " rows in step ", view.step);
        return count;
    }
    Index ask_router(const StepView<B>& view) {
        if constexpr (keeps_every_token<Router>) {
            ops::number_rows<B>(context_, view.kept);
            return view.num_candidates();
        } else if constexpr (LearnedRouter<Router, B>) {
            return model_.router().select(context_, model_.router_weights(), view, trace_.router);
        } else {
            return model_.router().select(context_, view);
        }
    }

    /// Of the `count` rows that the router kept, those that may still take this step. Compacts
    /// view.kept and view.weight.
    Index limit_depth(const StepView<B>& view, Index count) {
        const DepthControl& depth = options_.forward.depth;
        if (view.must_keep_all()) {
            check<ConfigError>(count == view.num_candidates(), "mor: router ", Router::name,
                               " kept ", count, " of ", view.num_candidates(), " rows in step ",
                               view.step, ", but forced_depth is ", view.forced_depth);
        }
        const bool is_over = view.step >= depth.max_depth ||
                             (depth.forced_depth > 0 && view.step >= depth.forced_depth);
        if (is_over || depth.max_depths.empty()) {
            return is_over ? 0 : count;
        }
        return limit_sequences(context_, depth, view, count);
    }

    /// x [rows, hidden] are the hidden states of the recursion's rows `active`.
    void inject(Index step, typename Trace<A, B>::Step& record, ConstIndexView<B> active,
                MatrixView<B> x) {
        if constexpr (!Injection::is_empty) {
            const MatrixView<B> entered = context_.matrix(x.rows(), x.columns());
            ops::gather_rows<B>(context_, trace_.entered, active, entered);
            record.entered = entered;
            model_.injection_weights().forward(context_, step, entered, x, record.injection);
        }
    }

    void run_shared_block(Index step, MatrixView<B> x, const Rows<B>& rows,
                          ConstIndexView<B> places) {
        const Layout& layout = model_.layout();
        const KeyRanges<B> ranges = own_ranges(rows);
        for (Index slot = 0; slot < layout.layers_per_step; ++slot) {
            run_layer(layout.layer_at(step, slot), x, rows, ranges, places);
        }
    }

    [[nodiscard]] bool nothing_computes_keys_from(Index first) const {
        for (Index layer = first; layer < model_.layout().num_unrolled(); ++layer) {
            if (key_use(layer).computes()) {
                return false;
            }
        }
        return true;
    }

    /// Of the rows that took a step, those whose output is wanted.
    StepView<B> only_wanted(const StepView<B>& taken) {
        auto& source = trace_.host.source;
        const auto& wanted = trace_.host.wanted;
        auto& left = trace_.host.left;
        if (taken.knows_source()) {
            source.assign(taken.host_source.begin(), taken.host_source.end());
        } else {
            to_host(taken.source, source);
        }
        left.clear();
        for (std::size_t i = 0; i < source.size(); ++i) {
            if (std::binary_search(wanted.begin(), wanted.end(), source[i])) {
                left.push_back(static_cast<Index>(i));
            }
        }
        std::span<const Index> host_source;
        if constexpr (!HostBackend<B>) {
            std::transform(left.begin(), left.end(), source.begin(),
                           [&](Index i) { return source[static_cast<std::size_t>(i)]; });
            source.resize(left.size());
            host_source = source;
        }
        const IndexView<B> kept = context_.indices(std::ssize(left));
        from_host(kept, left);
        const IndexView<B> active = context_.indices(kept.size());
        ops::compose_indices<B>(context_, taken.source, kept, active);
        StepView<B> next{
            .rows = known_rows<B>(context_, taken.rows, kept, left, trace_.host.wanted_rows),
            .source = active,
            .host_source = host_source};
        if constexpr (uses_previous<Router>) {
            const MatrixView<B> previous = context_.matrix(kept.size(), taken.previous.columns());
            ops::gather_rows<B>(context_, taken.previous, kept, previous);
            next.previous = previous;
        }
        return next;
    }

    MatrixView<B> copy_of(ConstMatrixView<B> x) {
        const MatrixView<B> copy = context_.matrix(x.rows(), x.columns());
        ops::copy<B>(context_, x, copy);
        return copy;
    }

    const Model<A, B>& model_;
    Context<B>& context_;
    const WalkOptions<B>& options_;
    Trace<A, B>& trace_;
    Observer& observer_;
};

}  // namespace detail
}  // namespace mor
