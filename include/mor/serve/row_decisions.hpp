// SPDX-License-Identifier: Apache-2.0
//
// Which rows take the next recursion step: the router is shown rows of different sequences as
// sequences of one row each, for it decides causally about each alone.
#pragma once

#include <mor/serve/served_row.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace mor::detail {

template <class A, Backend B>
class RowDecisions {
    using Router = typename A::Router;
    using Batch = ServedBatch;

public:
    RowDecisions(const Model<A, B>& model, Context<B>& context)
        : model_{model}, context_{context} {}

    /// Asks the router which of the rows, all of the same depth, take the step of that number, and
    /// writes goes_on, gives_keys and weights. x [rows, hidden]; previous, what the rows were
    /// before their last step, if the router looks at it.
    void decide(Batch rows, ConstMatrixView<B> x, ConstMatrixView<B> previous) {
        const Index step = rows.front()->depth;
        if constexpr (keeps_every_token<Router>) {
            accept(rows, first_indices(context_, std::ssize(rows)), {}, step);
        } else if constexpr (decides_in_first_step<Router>) {
            if (step == 0) {
                decide_all_steps(rows, x);
            }
            for (ServedRow* row : rows) {
                row->goes_on = step < row->max_depth;
            }
        } else {
            typename RouterState<Router, B>::Record record{};
            StepView<B> view = describe(rows, step, x, previous);
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

private:
    /// A row's max_depth becomes its depth.
    void decide_all_steps(Batch rows, ConstMatrixView<B> x) {
        typename RouterState<Router, B>::Record record{};
        StepView<B> view = describe(rows, 0, x, {});
        std::vector<Index> depths(rows.size(), 0);
        std::vector<Index> source = to_host(view.source);
        for (Index step = 0; step < model_.layout().num_steps; ++step) {
            view.step = step;
            view.is_last = step + 1 == model_.layout().num_steps;
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
            view.is_last_of = last_steps(candidates_of(rows, source), step + 1);
        }
        for (std::size_t i = 0; i < rows.size(); ++i) {
            rows[i]->max_depth = std::min(rows[i]->max_depth, depths[i]);
        }
    }

    static std::vector<ServedRow*> candidates_of(Batch rows, const std::vector<Index>& source) {
        std::vector<ServedRow*> candidates(source.size());
        std::transform(source.begin(), source.end(), candidates.begin(),
                       [&](Index i) { return rows[static_cast<std::size_t>(i)]; });
        return candidates;
    }

    StepView<B> narrow(Batch rows, StepView<B> view, const std::vector<Index>& source,
                       ConstMatrixView<B> x) {
        const IndexView<B> which = on_device(context_, source);
        const MatrixView<B> hidden = context_.matrix(std::ssize(source), x.columns());
        ops::gather_rows<B>(context_, x, which, hidden);
        view.rows = rows_of(candidates_of(rows, source));
        view.source = which;
        view.hidden = hidden;
        view.kept = context_.indices(std::ssize(source));
        view.weight = context_.vector(std::ssize(source));
        return view;
    }

    StepView<B> describe(Batch rows, Index step, ConstMatrixView<B> x,
                         ConstMatrixView<B> previous) {
        const Index count = std::ssize(rows);
        return {.step = step,
                .num_steps = model_.layout().num_steps,
                .capacity = model_.schedule().capacity(step, model_.layout().num_steps, 0),
                .decision = Decision::causal,
                .is_last = step + 1 == model_.layout().num_steps,
                .is_last_of = last_steps(rows, step),
                .rows = rows_of(rows),
                .entered = rows_of(rows),
                .source = first_indices(context_, count),
                .hidden = x,
                .previous = previous,
                .kept = context_.indices(count),
                .weight = context_.vector(count)};
    }

    /// 1 for the rows that may go no deeper than this step; empty without such limits.
    ConstIndexView<B> last_steps(Batch rows, Index step) {
        const bool any = std::any_of(rows.begin(), rows.end(), [](const ServedRow* row) {
            return row->max_depth != DepthControl::unlimited;
        });
        return any ? on_device(context_, collect<Index>(rows,
                                                        [&](const ServedRow& row) {
                                                            return Index{step + 1 >= row.max_depth};
                                                        }))
                   : IndexView<B>{};
    }

    /// Each row stands for a sequence of its own.
    Rows<B> rows_of(Batch rows) {
        return {first_indices(context_, std::ssize(rows) + 1),
                indices_of(context_, rows, &ServedRow::position)};
    }

    template <class Record>
    Index select(const StepView<B>& view, Record& record) {
        const Index count = [&] {
            if constexpr (LearnedRouter<Router, B>) {
                return model_.router().select(context_, model_.router_weights(), view, record);
            } else {
                return model_.router().select(context_, view);
            }
        }();
        check<ShapeError>(count >= 0 && count <= view.num_candidates(), "mor: router ",
                          Router::name, " kept ", count, " of ", view.num_candidates(),
                          " rows in step ", view.step);
        return count;
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
};

}  // namespace mor::detail
