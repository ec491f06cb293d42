// SPDX-License-Identifier: Apache-2.0
//
// The parts of a model's pass, each for rows of many sequences: into the recursion, one recursion
// step whatever its number, out of it, and logits. Between the parts rows rest in memory of fixed
// places.
#pragma once

#include <mor/serve/paged_source.hpp>
#include <mor/serve/row_decisions.hpp>
#include <mor/serve/served_row.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <span>
#include <vector>

namespace mor {

template <class A, Backend B>
    requires ServableArchitecture<A, B>
class ServedRows {
    using Element = typename B::Element;
    using Router = typename A::Router;
    using Merge = typename Router::Merge;
    using States = Tensor<Element, 2, typename B::Space>;

public:
    using Batch = ServedBatch;

    /// Room for `places` rows. Throws ConfigError if layers lie between the recursion steps.
    ServedRows(const Model<A, B>& model, Context<B>& context, PagedKeyValueCache<B>& cache,
               Index places)
        : model_{model},
          context_{context},
          cache_{cache},
          decisions_{model, context},
          hidden_{{places, model.config().hidden_size}},
          outer_{{places, model.config().hidden_size}},
          entered_{{A::Injection::is_empty ? 0 : places, model.config().hidden_size}},
          previous_{{detail::uses_previous<Router> ? places : 0, model.config().hidden_size}} {
        check<ConfigError>(model.layout().gap == 0, "mor::Engine: sharing ", A::Sharing::name,
                           " has layers between recursion steps, which cannot be served");
    }

    /// Whether one call may hold rows at different steps: their weights are the same, and the block
    /// does not ask which of its uses runs.
    [[nodiscard]] bool mixes_steps() const {
        const Layout& layout = model_.layout();
        bool same = std::same_as<typename A::Relaxation, NoRelaxation> &&
                    detail::ignores_use<BlockOf<A, B>>;
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
        from_host(tokens,
                  detail::collect<TokenId>(rows, [](const ServedRow& row) { return row.token; }));
        const MatrixView<B> x = context_.matrix(std::ssize(rows), hidden_.extents()[1]);
        model_.embed(context_, tokens, x);
        run_layers(rows, 0, model_.layout().first_step_layer, x);
        if (num_steps() > 0) {
            MergeState<B> state{.all = detail::first_indices(context_, std::ssize(rows))};
            Merge::template begin<B>(context_, x, state);
            rest(rows, x, hidden_);
            merge_keeps_rows_ = state.outer.data() != nullptr;
            rest_outer(rows, state);
            rest(rows, x, entered_);
            decisions_.decide(rows, x, {});
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
                decisions_.decide(next, gather(next, hidden_), previous_of(next));
            }
        }
    }

    /// The layers after the recursion.
    void leave(Batch rows) {
        context_.arena().release({});
        const Layout& layout = model_.layout();
        const MatrixView<B> x = gather(rows, hidden_);
        if (layout.num_steps > 0) {
            MergeState<B> state{
                .all = detail::first_indices(context_, std::ssize(rows)),
                .weight = detail::numbers_of(context_, rows, &ServedRow::first_weight)};
            state.outer = gather_outer(rows);
            Merge::template finish<B>(context_, x, state);
        }
        run_layers(rows, layout.end_of_recursion(), layout.num_unrolled(), x);
        rest(rows, x, hidden_);
    }

    /// Logits [rows, vocabulary] of rows that left, where the host can read them until the next
    /// call.
    [[nodiscard]] std::span<const Element> logits(Batch rows) {
        context_.arena().release({});
        const MatrixView<B> logits = model_.logits(context_, gather(rows, hidden_));
        if constexpr (HostBackend<B>) {
            return {logits.data(), static_cast<std::size_t>(logits.size())};
        } else {
            to_host(ConstMatrixView<B>{logits}, host_logits_);
            return host_logits_;
        }
    }

private:
    MatrixView<B> gather(Batch rows, const States& from) {
        const MatrixView<B> x = context_.matrix(std::ssize(rows), hidden_.extents()[1]);
        ops::gather_rows<B>(context_, from.view(),
                            detail::indices_of(context_, rows, &ServedRow::place), x);
        return x;
    }
    void rest(Batch rows, ConstMatrixView<B> x, States& to) {
        if (to.extents()[0] > 0) {
            ops::scatter_rows<B>(context_, x, detail::indices_of(context_, rows, &ServedRow::place),
                                 to.view());
        }
    }

    MatrixView<B> previous_of(Batch rows) {
        return detail::uses_previous<Router> ? gather(rows, previous_) : MatrixView<B>{};
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
        const LayerInput<B> input{detail::indices_of(context_, rows, &ServedRow::position),
                                  model_.rotary(), model_.use_of(layer)};
        PagedSource<B> source{cache_, keys};
        typename BlockOf<A, B>::Saved saved{};
        model_.block_of(layer).forward(context_, x, input, source, saved);
    }

    void run_layers(Batch rows, Index first, Index last, MatrixView<B> x) {
        for (Index layer = first; layer < last; ++layer) {
            run_layer(rows,
                      detail::collect<KeyRow>(rows,
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
            run_layer(rows, detail::collect<KeyRow>(rows, key_row),
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
                const IndexView<B> own = detail::on_device(context_, which);
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
        const IndexView<B> active = detail::on_device(context_, which);
        const MatrixView<B> result = context_.matrix(std::ssize(which), h.columns());
        ops::gather_rows<B>(context_, y, active, result);
        MergeState<B> state{.all = detail::first_indices(context_, h.rows())};
        state.outer = gather_outer(rows);
        Merge::template step<B>(context_, h, state,
                                {active, detail::numbers_of(context_, kept, &ServedRow::weight)},
                                result);
        rest_outer(rows, state);
    }

    const Model<A, B>& model_;
    Context<B>& context_;
    PagedKeyValueCache<B>& cache_;
    detail::RowDecisions<A, B> decisions_;
    bool merge_keeps_rows_ = false;
    States hidden_;  // [places, hidden]
    States outer_;   // what the merge keeps
    States entered_;
    States previous_;
    std::vector<Element> host_logits_;
};

}  // namespace mor
