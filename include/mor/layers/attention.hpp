// SPDX-License-Identifier: Apache-2.0
//
// Grouped-query attention with rotary embedding: projections around ops::attention.
#pragma once

#include <mor/layers/key_values.hpp>
#include <mor/layers/linear.hpp>
#include <mor/layers/rotary.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/attention.hpp>

#include <string>

namespace mor {

template <Backend B>
class Attention {
public:
    struct Saved {
        ConstMatrixView<B> x;         // [rows, hidden]
        ConstIndexView<B> positions;  // [rows]
        MatrixView<B> queries;        // [rows, heads * head_dim]
        KeyValues<B> visible;
        MatrixView<B> mixed;      // attention's output, before the last projection
        MatrixView<B> logsumexp;  // [rows, heads]
    };

    /// Four projections "<prefix>q_proj.weight", k, v and o.
    Attention(const std::string& prefix, const ModelConfig& config)
        : shape_{config.num_heads, config.num_kv_heads, config.head_dim},
          query_{prefix + "q_proj.weight", config.hidden_size, query_width()},
          key_{prefix + "k_proj.weight", config.hidden_size, key_width()},
          value_{prefix + "v_proj.weight", config.hidden_size, key_width()},
          output_{prefix + "o_proj.weight", query_width(), config.hidden_size} {}

    /// residual += attention(x). x, residual [rows, hidden].
    template <KeyValueSource<B> Source>
    void forward(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> positions,
                 const Rotary<B>& rotary, Source& source, MatrixView<B> residual,
                 Saved& saved) const {
        saved.x = x;
        saved.positions = positions;
        saved.queries = context.matrix(x.rows(), query_width());
        query_.forward(context, x, saved.queries);
        rotary.rotate(context, positions, saved.queries, Rotation::forward);
        if (source.owns()) {
            const MatrixView<B> keys = context.matrix(x.rows(), key_width());
            const MatrixView<B> values = context.matrix(x.rows(), key_width());
            key_.forward(context, x, keys);
            rotary.rotate(context, positions, keys, Rotation::forward);
            value_.forward(context, x, values);
            source.publish(context, keys, values);
        }
        saved.visible = source.visible(context);
        saved.mixed = context.matrix(x.rows(), query_width());
        saved.logsumexp = context.matrix(x.rows(), shape_.heads);
        ops::attention<B>(context, shape_, saved.queries, saved.visible.keys, saved.visible.values,
                          saved.visible.ranges, saved.mixed, saved.logsumexp);
        output_.forward(context, saved.mixed, residual, Write::accumulate);
    }

    /// Writes dx [rows, hidden] from dresidual. `gradients` are those of the visible keys and
    /// values; `owns` says whether they are this layer's own, and then they must be complete
    /// except for this layer's share.
    void backward(Context<B>& context, const Saved& saved, const Rotary<B>& rotary,
                  const KeyValueGradients<B>& gradients, bool owns, ConstMatrixView<B> dresidual,
                  MatrixView<B> dx) {
        const MatrixView<B> dmixed = context.matrix(dresidual.rows(), query_width());
        output_.backward(context, saved.mixed, dresidual, dmixed, Write::overwrite);
        const MatrixView<B> dqueries = context.matrix(dresidual.rows(), query_width());
        ops::attention_backward<B>(context, shape_, saved.queries, saved.visible.keys,
                                   saved.visible.values, saved.visible.ranges, saved.mixed,
                                   saved.logsumexp, dmixed, dqueries, gradients.keys,
                                   gradients.values);
        rotary.rotate(context, saved.positions, dqueries, Rotation::backward);
        query_.backward(context, saved.x, dqueries, dx, Write::overwrite);
        if (owns) {
            rotary.rotate(context, saved.positions, gradients.keys, Rotation::backward);
            key_.backward(context, saved.x, gradients.keys, dx, Write::accumulate);
            value_.backward(context, saved.x, gradients.values, dx, Write::accumulate);
        }
    }

    void initialize(Random& random, double deviation) {
        query_.initialize(random, deviation);
        key_.initialize(random, deviation);
        value_.initialize(random, deviation);
        output_.initialize(random, deviation);
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        query_.visit_parameters(visitor);
        key_.visit_parameters(visitor);
        value_.visit_parameters(visitor);
        output_.visit_parameters(visitor);
    }

private:
    [[nodiscard]] Index query_width() const { return shape_.heads * shape_.head_dim; }
    [[nodiscard]] Index key_width() const { return shape_.kv_heads * shape_.head_dim; }

    AttentionShape shape_;
    Linear<B> query_;
    Linear<B> key_;
    Linear<B> value_;
    Linear<B> output_;
};

}  // namespace mor
