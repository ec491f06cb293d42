// SPDX-License-Identifier: Apache-2.0
//
// The parts of a model's pass, each for rows of many sequences: into the recursion, one recursion
// step whatever its number, out of it, and logits. Between the parts rows rest in memory of fixed
// places.
#pragma once

#include <mor/model/model.hpp>
#include <mor/serve/paged_source.hpp>

#include <algorithm>
#include <concepts>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

namespace mor {

/// A token on its way through the model.
struct ServedRow {
    SequenceTables* tables = nullptr;
    TokenId token = 0;
    Index position = 0;
    Index max_depth = DepthControl::unlimited;
    Index place = 0;          // where its states rest
    Index depth = 0;          // steps that it took so far
    bool goes_on = false;     // whether it takes the step of number `depth`
    bool gives_keys = false;  // runs that step for its keys and values only
    double weight = 1;        // of the step to come
    double first_weight = 1;  // of step 0
};

namespace detail {

/// Routers that keep something of a row from one step to the next, beside its depth, say so with
/// `static constexpr bool keeps_row_state = true`; those that decide a row's depth in step 0 with
/// `decides_in_first_step`.
template <class R>
inline constexpr bool keeps_row_state = requires { requires R::keeps_row_state; };
template <class R>
inline constexpr bool decides_in_first_step = requires { requires R::decides_in_first_step; };

}  // namespace detail

/// What the engine can serve: a router whose causal decision about a row depends on the row and
/// the step alone.
template <class A, class B>
concept ServableArchitecture = Architecture<A, B> && !detail::keeps_row_state<typename A::Router> &&
                               !reconsiders_every_token<typename A::Router>;

template <class A, Backend B>
    requires ServableArchitecture<A, B>
class ServedRows {
    using Element = typename B::Element;
    using Router = typename A::Router;
    using Merge = typename Router::Merge;
    using States = Tensor<Element, 2, typename B::Space>;

public:
    using Batch = std::span<ServedRow* const>;

    /// Room for `places` rows. Throws ConfigError if layers lie between the recursion steps.
    ServedRows(const Model<A, B>& model, Context<B>& context, PagedKeyValueCache<B>& cache,
               Index places)
        : model_{model},
          context_{context},
          cache_{cache},
          hidden_{{places, model.config().hidden_size}},
          outer_{{places, model.config().hidden_size}},
          entered_{{A::Injection::is_empty ? 0 : places, model.config().hidden_size}},
          previous_{{detail::uses_previous<Router> ? places : 0, model.config().hidden_size}} {
        check<ConfigError>(model.layout().gap == 0, "mor::Engine: sharing ", A::Sharing::name,
                           " has layers between recursion steps, which cannot be served");
    }

    /// Whether one call may hold rows at different steps: their weights are the same.
    [[nodiscard]] bool mixes_steps() const {
        const Layout& layout = model_.layout();
        bool same = std::same_as<typename A::Relaxation, NoRelaxation>;
        for (Index slot = 0; slot < layout.layers_per_step; ++slot) {
            for (Index step = 1; step < layout.num_steps; ++step) {
                const auto physical = [&](Index s) {
                    return layout.physical[static_cast<std::size_t>(layout.layer_at(s, slot))];
                };
                same = same && physical(step) == physical(0);
            }
        }
        return same;
    }
    [[nodiscard]] Index num_steps() const { return model_.layout().num_steps; }

    /// Embedding and the layers before the recursion; and what each row does next.
    void enter(Batch rows) {
        context_.arena().release({});
        const auto tokens = context_.arena().template make<TokenId, 1>({std::ssize(rows)});
        from_host(tokens, collect<TokenId>(rows, [](const ServedRow& row) { return row.token; }));
        const MatrixView<B> x = context_.matrix(std::ssize(rows), hidden_.extents()[1]);
        model_.embed(context_, tokens, x);
        run_layers(rows, 0, model_.layout().first_step_layer, x);
        if (num_steps() > 0) {
            MergeState<B> state{.all = all(std::ssize(rows))};
            Merge::template begin<B>(context_, x, state);
            rest(rows, x, hidden_);
            merge_keeps_rows_ = state.outer.data() != nullptr;
            rest_outer(rows, state);
            rest(rows, x, entered_);
            decide(rows, x);
        } else {
            rest(rows, x, hidden_);
        }
    }

    /// The shared block for rows that go on, each at its own step.
    void step(Batch rows) {
        context_.arena().release({});
        const MatrixView<B> before = gather(rows, hidden_);
        const MatrixView<B> x = gather(rows, hidden_);
        inject(rows, x);
        run_shared_block(rows, x);
        if constexpr (detail::uses_previous<Router>) {
            rest(rows, before, previous_);
        }
        join(rows, before, x);
        rest(rows, before, hidden_);
        for (ServedRow* row : rows) {
            row->depth += row->gives_keys ? 0 : 1;
            row->goes_on = false;
        }
        std::vector<ServedRow*> next;
        for (Index depth = 1; depth < num_steps(); ++depth) {
            next.clear();
            std::copy_if(rows.begin(), rows.end(), std::back_inserter(next),
                         [&](ServedRow* row) { return row->depth == depth && !row->gives_keys; });
            if (!next.empty()) {
                decide(next, gather(next, hidden_));
            }
        }
    }

    /// The layers after the recursion.
    void leave(Batch rows) {
        context_.arena().release({});
        const Layout& layout = model_.layout();
        const MatrixView<B> x = gather(rows, hidden_);
        if (layout.num_steps > 0) {
            MergeState<B> state{.all = all(std::ssize(rows)),
                                .weight = vector_of(rows, &ServedRow::first_weight)};
            state.outer = gather_outer(rows);
            Merge::template finish<B>(context_, x, state);
        }
        run_layers(rows, layout.end_of_recursion(), layout.num_unrolled(), x);
        rest(rows, x, hidden_);
    }

    /// Logits [rows, vocabulary] of rows that left, in host memory.
    [[nodiscard]] std::vector<Element> logits(Batch rows) {
        context_.arena().release({});
        return to_host(ConstMatrixView<B>{model_.logits(context_, gather(rows, hidden_))});
    }

private:
    template <class T, class Function>
    static std::vector<T> collect(Batch rows, Function&& function) {
        std::vector<T> values;
        for (const ServedRow* row : rows) {
            values.push_back(function(*row));
        }
        return values;
    }
    ConstIndexView<B> indices_of(Batch rows, Index ServedRow::*member) {
        const IndexView<B> view = context_.indices(std::ssize(rows));
        from_host(view, collect<Index>(rows, [&](const ServedRow& row) { return row.*member; }));
        return view;
    }
    ConstVectorView<B> vector_of(Batch rows, double ServedRow::*member) {
        const VectorView<B> view = context_.vector(std::ssize(rows));
        from_host(view, collect<Element>(rows, [&](const ServedRow& row) {
                      return static_cast<Element>(row.*member);
                  }));
        return view;
    }
    ConstIndexView<B> all(Index count) {
        const IndexView<B> view = context_.indices(count);
        ops::number_rows<B>(context_, view);
        return view;
    }
    MatrixView<B> gather(Batch rows, const States& from) {
        const MatrixView<B> x = context_.matrix(std::ssize(rows), hidden_.extents()[1]);
        ops::gather_rows<B>(context_, from.view(), indices_of(rows, &ServedRow::place), x);
        return x;
    }
    void rest(Batch rows, ConstMatrixView<B> x, States& to) {
        if (to.extents()[0] > 0) {
            ops::scatter_rows<B>(context_, x, indices_of(rows, &ServedRow::place), to.view());
        }
    }

    MatrixView<B> gather_outer(Batch rows) {
        return merge_keeps_rows_ ? gather(rows, outer_) : MatrixView<B>{};
    }
    void rest_outer(Batch rows, const MergeState<B>& state) {
        if (merge_keeps_rows_) {
            rest(rows, state.outer, outer_);
        }
    }

    void run_layer(Batch rows, const std::vector<KeyRow>& keys, Index layer, MatrixView<B> x) {
        const typename Arena<typename B::Space>::Scope scope{context_.arena()};
        const LayerInput<B> input{indices_of(rows, &ServedRow::position), model_.rotary(),
                                  model_.use_of(layer)};
        PagedSource<B> source{cache_, keys};
        typename BlockOf<A, B>::Saved saved{};
        model_.block_of(layer).forward(context_, x, input, source, saved);
    }

    void run_layers(Batch rows, Index first, Index last, MatrixView<B> x) {
        for (Index layer = first; layer < last; ++layer) {
            run_layer(rows,
                      collect<KeyRow>(rows,
                                      [&](const ServedRow& row) {
                                          return KeyRow{row.tables, layer, row.position};
                                      }),
                      layer, x);
        }
    }

    void run_shared_block(Batch rows, MatrixView<B> x) {
        const Layout& layout = model_.layout();
        for (Index slot = 0; slot < layout.layers_per_step; ++slot) {
            const auto key_row = [&](const ServedRow& row) {
                return KeyRow{row.tables, layout.layer_at(row.depth, slot), row.position};
            };
            run_layer(rows, collect<KeyRow>(rows, key_row),
                      layout.layer_at(rows.front()->depth, slot), x);
        }
    }

    void inject(Batch rows, MatrixView<B> x) {
        if constexpr (!A::Injection::is_empty) {
            for (Index step = 0; step < num_steps(); ++step) {
                std::vector<ServedRow*> members;
                std::vector<Index> which;
                for (std::size_t i = 0; i < rows.size(); ++i) {
                    if (rows[i]->depth == step) {
                        members.push_back(rows[i]);
                        which.push_back(static_cast<Index>(i));
                    }
                }
                if (members.empty()) {
                    continue;
                }
                const IndexView<B> own = context_.indices(std::ssize(which));
                from_host(own, which);
                const MatrixView<B> part = context_.matrix(std::ssize(which), x.columns());
                ops::gather_rows<B>(context_, x, own, part);
                typename InjectionWeights<A, B>::Saved saved{};
                model_.injection_weights().forward(context_, step, gather(members, entered_), part,
                                                   saved);
                ops::scatter_rows<B>(context_, part, own, x);
            }
        }
    }

    /// Joins the block's results y to h, the rows before it, except those that only gave keys.
    void join(Batch rows, MatrixView<B> h, ConstMatrixView<B> y) {
        std::vector<ServedRow*> kept;
        std::vector<Index> which;
        for (std::size_t i = 0; i < rows.size(); ++i) {
            if (!rows[i]->gives_keys) {
                kept.push_back(rows[i]);
                which.push_back(static_cast<Index>(i));
            }
        }
        const IndexView<B> active = context_.indices(std::ssize(which));
        from_host(active, which);
        const MatrixView<B> result = context_.matrix(std::ssize(which), h.columns());
        ops::gather_rows<B>(context_, y, active, result);
        MergeState<B> state{.all = all(h.rows())};
        state.outer = gather_outer(rows);
        Merge::template step<B>(context_, h, state, {active, vector_of(kept, &ServedRow::weight)},
                                result);
        rest_outer(rows, state);
    }

    /// Asks the router which of the rows, all of the same depth, take the step of that number.
    /// x [rows, hidden].
    void decide(Batch rows, ConstMatrixView<B> x) {
        const Index step = rows.front()->depth;
        if constexpr (keeps_every_token<Router>) {
            accept(rows, all(std::ssize(rows)), {}, step);
        } else if constexpr (detail::decides_in_first_step<Router>) {
            if (step == 0) {
                decide_all_steps(rows, x);
            }
            for (ServedRow* row : rows) {
                row->goes_on = step < row->max_depth;
            }
        } else {
            typename detail::RouterState<Router, B>::Record record{};
            StepView<B> view = describe(rows, step, x);
            const Index count = select(view, record);
            accept(rows, view.kept.slice(0, count), view.weight.slice(0, count), step);
        }
        if constexpr (shares_first_step<typename A::Cache>) {
            for (ServedRow* row : rows) {
                row->gives_keys = step == 0 && !row->goes_on;
                row->goes_on = row->goes_on || row->gives_keys;
            }
        }
    }

    /// A row's max_depth becomes its depth.
    void decide_all_steps(Batch rows, ConstMatrixView<B> x) {
        typename detail::RouterState<Router, B>::Record record{};
        std::vector<ServedRow*> candidates{rows.begin(), rows.end()};
        StepView<B> view = describe(rows, 0, x);
        std::vector<Index> depths(rows.size(), 0);
        std::vector<Index> source = to_host(view.source);
        for (Index step = 0; step < num_steps(); ++step) {
            view.step = step;
            view.is_last = step + 1 == num_steps();
            const Index count = select(view, record);
            const std::vector<Index> kept = to_host(ConstIndexView<B>{view.kept.slice(0, count)});
            if (step == 0) {
                const auto weights = to_host(ConstVectorView<B>{view.weight.slice(0, count)});
                for (std::size_t i = 0; i < kept.size(); ++i) {
                    rows[static_cast<std::size_t>(kept[i])]->first_weight =
                        static_cast<double>(weights[i]);
                }
            }
            std::vector<Index> next;
            for (const Index candidate : kept) {
                next.push_back(source[static_cast<std::size_t>(candidate)]);
                ++depths[static_cast<std::size_t>(next.back())];
            }
            source = std::move(next);
            view = narrow(rows, view, source, x);
        }
        for (std::size_t i = 0; i < rows.size(); ++i) {
            rows[i]->max_depth = std::min(rows[i]->max_depth, depths[i]);
        }
    }

    StepView<B> narrow(Batch rows, StepView<B> view, const std::vector<Index>& source,
                       ConstMatrixView<B> x) {
        std::vector<ServedRow*> candidates(source.size());
        std::transform(source.begin(), source.end(), candidates.begin(),
                       [&](Index i) { return rows[static_cast<std::size_t>(i)]; });
        const IndexView<B> which = context_.indices(std::ssize(source));
        from_host(which, source);
        const MatrixView<B> hidden = context_.matrix(std::ssize(source), x.columns());
        ops::gather_rows<B>(context_, x, which, hidden);
        view.rows = rows_of(candidates);
        view.source = which;
        view.hidden = hidden;
        view.kept = context_.indices(std::ssize(source));
        view.weight = context_.vector(std::ssize(source));
        return view;
    }

    StepView<B> describe(Batch rows, Index step, ConstMatrixView<B> x) {
        const Index count = std::ssize(rows);
        StepView<B> view{.step = step,
                         .num_steps = num_steps(),
                         .capacity = model_.schedule().capacity(step, num_steps(), 0),
                         .decision = Decision::causal,
                         .is_last = step + 1 == num_steps(),
                         .rows = rows_of(rows),
                         .entered = rows_of(rows),
                         .source = all(count),
                         .hidden = x,
                         .kept = context_.indices(count),
                         .weight = context_.vector(count)};
        if constexpr (detail::uses_previous<Router>) {
            if (step > 0) {
                view.previous = gather(rows, previous_);
            }
        }
        return view;
    }

    /// Each row stands for a sequence of its own.
    Rows<B> rows_of(Batch rows) {
        return {all(std::ssize(rows) + 1), indices_of(rows, &ServedRow::position)};
    }

    template <class Record>
    Index select(const StepView<B>& view, Record& record) {
        if constexpr (LearnedRouter<Router, B>) {
            return model_.router().select(context_, model_.router_weights(), view, record);
        } else if constexpr (!keeps_every_token<Router>) {
            return model_.router().select(context_, view);
        } else {
            return view.num_candidates();
        }
    }

    void accept(Batch rows, ConstIndexView<B> kept, ConstVectorView<B> weight, Index step) {
        const std::vector<Index> chosen = to_host(kept);
        const auto weights = to_host(weight);
        for (std::size_t i = 0; i < chosen.size(); ++i) {
            ServedRow& row = *rows[static_cast<std::size_t>(chosen[i])];
            row.goes_on = step < row.max_depth;
            row.weight = i < weights.size() ? static_cast<double>(weights[i]) : 1.0;
            row.first_weight = step == 0 ? row.weight : row.first_weight;
        }
    }

    const Model<A, B>& model_;
    Context<B>& context_;
    PagedKeyValueCache<B>& cache_;
    bool merge_keeps_rows_ = false;
    States hidden_;  // [places, hidden]
    States outer_;   // what the merge keeps
    States entered_;
    States previous_;
};

}  // namespace mor
