// SPDX-License-Identifier: Apache-2.0
//
// Grouped-query attention with rotary embedding: projections around ops::attention.
#pragma once

#include <mor/layers/key_values.hpp>
#include <mor/layers/layer_uses.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/attention.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/linear.hpp>
#include <mor/ops/to_activations.hpp>

#include <string>
#include <type_traits>

namespace mor {

template <Backend B, class Relaxation = NoRelaxation>
    requires RelaxationPolicy<Relaxation, B>
class Attention {
    using Projection = typename Relaxation::template Projection<B>;
    using Prompt = typename Relaxation::template Prompt<B>;
    /// The output projection alone reads what attention makes, unless a prompt adds to it.
    using Mixed = std::conditional_t<Prompt::is_empty, ActivationView<B>, MatrixView<B>>;

public:
    struct Saved {
        ConstActivationView<B> x;   // [rows, hidden]
        ActivationView<B> queries;  // [rows, heads * head_dim]
        KeyValues<B> visible;
        Mixed attended;           // [rows, heads * head_dim] the output of attention
        Mixed mixed;              // the same, with what a prompt added
        MatrixView<B> logsumexp;  // [rows, heads]
        typename Prompt::Saved prompt;
    };

    /// Four projections "self_attn.q_proj.weight", k, v and o.
    Attention(const LayerUses& uses, const ModelConfig& config,
              const typename Relaxation::Options& options = {})
        : shape_{config.num_heads, config.num_kv_heads, config.head_dim},
          query_{make(uses, "q", options, config.hidden_size, query_width())},
          key_{make(uses, "k", options, config.hidden_size, key_width())},
          value_{make(uses, "v", options, config.hidden_size, key_width())},
          output_{make(uses, "o", options, query_width(), config.hidden_size)},
          prompt_{make_prompt(uses, options, config.hidden_size)} {}

    /// residual += attention(x). x, residual [rows, hidden].
    template <KeyValueSource<B> Source>
    void forward(Context<B>& context, const LayerInput<B>& input, ConstActivationView<B> x,
                 Source& source, MatrixView<B> residual, Saved& saved) const {
        saved.x = x;
        saved.queries = context.activation_matrix(x.rows(), query_width());
        query_.at(input.use).forward(context, x, saved.queries);
        input.rotary.rotate(context, input.positions, saved.queries, Rotation::forward);
        if (source.computes()) {
            const ActivationView<B> keys = context.activation_matrix(x.rows(), key_width());
            const ActivationView<B> values = context.activation_matrix(x.rows(), key_width());
            key_.at(input.use).forward(context, x, keys);
            input.rotary.rotate(context, input.positions, keys, Rotation::forward);
            value_.at(input.use).forward(context, x, values);
            source.publish(context, keys, values);
        }
        saved.visible = source.visible(context);
        saved.attended = mixed_matrix(context, x.rows());
        saved.logsumexp = context.matrix(x.rows(), shape_.heads);
        ops::attention<B>(context, shape_, saved.queries, saved.visible.keys, saved.visible.values,
                          saved.visible.ranges, saved.attended, saved.logsumexp);
        saved.mixed = saved.attended;
        if constexpr (!Prompt::is_empty) {
            saved.mixed = mixed_matrix(context, x.rows());
            ops::copy<B>(context, saved.attended, saved.mixed);
            prompt_.forward(context, input.use, shape_, key_.at(input.use), value_.at(input.use),
                            saved.queries, saved.mixed, saved.prompt);
        }
        output_.at(input.use).forward(context, saved.mixed, residual, Write::accumulate);
    }

    /// Writes dx [rows, hidden] from dresidual.
    template <KeyValueGradientSource<B> Source>
    void backward(Context<B>& context, const LayerInput<B>& input, const Saved& saved,
                  Source& source, ConstMatrixView<B> dresidual, MatrixView<B> dx) {
        const Mixed dmixed = mixed_matrix(context, dresidual.rows());
        output_.at(input.use).backward(context, saved.mixed,
                                       ops::to_activations(context, dresidual), dmixed,
                                       Write::overwrite);
        const Mixed dqueries = mixed_matrix(context, dresidual.rows());
        const KeyValueGradients<B> dvisible = source.visible(context);
        ops::attention_backward<B>(context, shape_, saved.queries, saved.visible.keys,
                                   saved.visible.values, saved.visible.ranges, saved.attended,
                                   saved.logsumexp, dmixed, dqueries, dvisible.keys,
                                   dvisible.values);
        if constexpr (!Prompt::is_empty) {
            prompt_.backward(context, input.use, shape_, key_.at(input.use), value_.at(input.use),
                             saved.queries, saved.prompt, dmixed, dqueries);
        }
        input.rotary.rotate(context, input.positions, dqueries, Rotation::backward);
        query_.at(input.use).backward(context, saved.x, dqueries, dx, Write::overwrite);
        if (source.computes()) {
            const KeyValueGradients<B> own = source.own(context);
            input.rotary.rotate(context, input.positions, own.keys, Rotation::backward);
            key_.at(input.use).backward(context, saved.x, ops::to_activations<B>(context, own.keys),
                                        dx, Write::accumulate);
            value_.at(input.use).backward(context, saved.x,
                                          ops::to_activations<B>(context, own.values), dx,
                                          Write::accumulate);
        }
    }

    void initialize(Random& random, double deviation) {
        query_.initialize(random, deviation);
        key_.initialize(random, deviation);
        value_.initialize(random, deviation);
        output_.initialize(random, deviation);
        prompt_.initialize(random, deviation);
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        query_.visit_parameters(visitor);
        key_.visit_parameters(visitor);
        value_.visit_parameters(visitor);
        output_.visit_parameters(visitor);
        prompt_.visit_parameters(visitor);
    }

private:
    [[nodiscard]] Index query_width() const { return shape_.heads * shape_.head_dim; }
    [[nodiscard]] Index key_width() const { return shape_.kv_heads * shape_.head_dim; }

    [[nodiscard]] Mixed mixed_matrix(Context<B>& context, Index rows) const {
        if constexpr (Prompt::is_empty) {
            return context.activation_matrix(rows, query_width());
        } else {
            return context.matrix(rows, query_width());
        }
    }

    static Projection make(const LayerUses& uses, const std::string& letter,
                           const typename Relaxation::Options& options, Index inputs,
                           Index outputs) {
        return detail::make_part<Projection>(uses, "self_attn." + letter + "_proj.weight", options,
                                             inputs, outputs);
    }
    static Prompt make_prompt(const LayerUses& uses, const typename Relaxation::Options& options,
                              Index hidden) {
        if constexpr (Prompt::is_empty) {
            return detail::make_part<Prompt>(uses, "self_attn.", options);
        } else {
            return detail::make_part<Prompt>(uses, "self_attn.", options, hidden);
        }
    }

    AttentionShape shape_;
    Projection query_;
    Projection key_;
    Projection value_;
    Projection output_;
    Prompt prompt_;
};

}  // namespace mor
