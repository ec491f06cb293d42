// SPDX-License-Identifier: Apache-2.0
//
// Adaption prompts (Zhang et al. 2023, "LLaMA-Adapter"): every use of a layer has learned prompt
// rows, to which its queries attend by a softmax of their own; a learned gate scales the result.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/parameter.hpp>
#include <mor/core/reflect.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/ops/attention.hpp>
#include <mor/ops/rows.hpp>
#include <mor/ops/scale.hpp>

#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace mor {

struct AdaptionPromptOptions {
    Index length = 5;  // prompt rows of a use

    static constexpr auto fields() {
        return std::tuple{Field{"length", &AdaptionPromptOptions::length}};
    }
};

/// "<name>adaption_prompt.<unrolled layer>" [length, hidden], and "<name>adaption_gate...." [1],
/// zero at first. Prompts have no positions: their keys are not rotated, and all queries see them.
template <Backend B>
class AdaptionPromptPart {
public:
    static constexpr bool is_empty = false;
    struct Saved {
        ActivationView<B> keys;  // [length, kv_heads * head_dim], as are the values
        ActivationView<B> values;
        KeyRanges<B> ranges;
        MatrixView<B> mixed;  // [rows, heads * head_dim] before the gate
        MatrixView<B> logsumexp;
    };

    /// Throws ConfigError if the length is not positive.
    AdaptionPromptPart(const LayerUses& uses, const std::string& name, Index hidden,
                       const AdaptionPromptOptions& options) {
        check<ConfigError>(options.length > 0, "mor::AdaptionPrompt: length is ", options.length,
                           ", expected at least 1");
        for (const LayerUses::Use& use : uses.uses) {
            prompts_.push_back(
                {{uses.name_of(name + "adaption_prompt", use),
                  {options.length, hidden},
                  WeightDecay::yes},
                 {uses.name_of(name + "adaption_gate", use), {1}, WeightDecay::yes}});
        }
    }

    /// Adds to mixed [rows, heads * head_dim]. `key` and `value` are the layer's projections.
    template <class Projection>
    void forward(Context<B>& context, Index use, const AttentionShape& shape, const Projection& key,
                 const Projection& value, ConstActivationView<B> queries, MatrixView<B> mixed,
                 Saved& saved) const {
        const auto& own = prompts_[static_cast<std::size_t>(use)];
        const ConstMatrixView<B> rows = own.rows.value_matrix();
        saved.keys = context.activation_matrix(rows.rows(), key.outputs());
        saved.values = context.activation_matrix(rows.rows(), key.outputs());
        key.forward(context, rows, saved.keys);
        value.forward(context, rows, saved.values);
        saved.ranges = all_of(context, queries.rows(), rows.rows());
        saved.mixed = context.matrix(queries.rows(), queries.columns());
        saved.logsumexp = context.matrix(queries.rows(), shape.heads);
        ops::attention<B>(context, shape, queries, saved.keys, saved.values, saved.ranges,
                          saved.mixed, saved.logsumexp);
        ops::scale_columns<B>(context, one_column(saved.mixed), own.gate.value(), one_column(mixed),
                              Write::accumulate);
    }

    /// Adds to dqueries and to the gradients of prompt, gate and projections.
    template <class Projection>
    void backward(Context<B>& context, Index use, const AttentionShape& shape, Projection&& key,
                  Projection&& value, ConstActivationView<B> queries, const Saved& saved,
                  ConstMatrixView<B> dmixed, MatrixView<B> dqueries) {
        auto& own = prompts_[static_cast<std::size_t>(use)];
        const ConstMatrixView<B> rows = std::as_const(own.rows).value_matrix();
        const MatrixView<B> dgated = context.matrix(dmixed.rows(), dmixed.columns());
        ops::scale_columns_backward<B>(context, one_column(saved.mixed),
                                       std::as_const(own.gate).value(), one_column(dmixed),
                                       one_column(dgated), own.gate.gradient());
        const MatrixView<B> dkeys = context.zero_matrix(rows.rows(), saved.keys.columns());
        const MatrixView<B> dvalues = context.zero_matrix(rows.rows(), saved.keys.columns());
        const MatrixView<B> dprompted = context.matrix(queries.rows(), queries.columns());
        ops::attention_backward<B>(context, shape, queries, saved.keys, saved.values, saved.ranges,
                                   saved.mixed, saved.logsumexp, dgated, dprompted, dkeys, dvalues);
        ops::scale<B>(context, dprompted, 1.0, dqueries, Write::accumulate);
        key.backward(context, rows, dkeys, own.rows.gradient_matrix(), Write::accumulate);
        value.backward(context, rows, dvalues, own.rows.gradient_matrix(), Write::accumulate);
    }

    void initialize(Random& random, double /*deviation*/) {
        for (Prompt& prompt : prompts_) {
            prompt.rows.fill_normal(random, 1.0);
        }
    }
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        for (Prompt& prompt : prompts_) {
            visitor(prompt.rows);
            visitor(prompt.gate);
        }
    }

private:
    struct Prompt {
        Parameter<B> rows;
        Parameter<B> gate;
    };

    /// The matrix as one column, so that the gate scales all of it.
    template <class View>
    static View one_column(const View& matrix) {
        return {matrix.data(), {matrix.size(), 1}};
    }
    static KeyRanges<B> all_of(Context<B>& context, Index queries, Index keys) {
        const IndexView<B> begin = context.zero_indices(queries);
        const IndexView<B> end = context.indices(queries);
        ops::fill_indices<B>(context, keys, end);
        return {begin, end, queries * keys};
    }

    std::vector<Prompt> prompts_;  // [uses]
};

struct AdaptionPrompt : NoRelaxation {
    static constexpr std::string_view name = "adaption_prompt";
    using Options = AdaptionPromptOptions;
    template <Backend B>
    using Prompt = AdaptionPromptPart<B>;
};

}  // namespace mor
