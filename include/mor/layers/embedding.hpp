// SPDX-License-Identifier: Apache-2.0
//
// The embedding table and the head, together because they may be one storage: a tied head reads
// and trains the table itself, so the tie cannot be lost.
#pragma once

#include <mor/layers/linear.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/embedding.hpp>

#include <optional>

namespace mor {

template <Backend B>
class Embedding {
public:
    /// "model.embed_tokens.weight" [vocabulary, hidden], and "lm_head.weight" unless tied.
    explicit Embedding(const ModelConfig& config)
        : table_{"model.embed_tokens.weight",
                 {config.vocab_size, config.hidden_size},
                 WeightDecay::yes} {
        if (!config.tie_embeddings) {
            head_.emplace("lm_head.weight", config.hidden_size, config.vocab_size);
        }
    }

    /// Writes the tokens' vectors, [rows, hidden].
    void embed(Context<B>& context, ConstTokenView<B> tokens, MatrixView<B> out) const {
        ops::embedding(context, tokens, table_.value_matrix(), out);
    }

    /// Adds dout [rows, hidden] to the gradient of the tokens' rows of the table.
    void embed_backward(Context<B>& context, ConstTokenView<B> tokens, ConstMatrixView<B> dout) {
        ops::embedding_backward(context, tokens, dout, table_.gradient_matrix());
    }

    /// logits [rows, vocabulary] = x [rows, hidden] * head^T.
    void project(Context<B>& context, ConstActivationView<B> x, MatrixView<B> logits) const {
        if (head_) {
            head_->forward(context, x, logits);
        } else {
            ops::linear(context, x, table_, logits);
        }
    }

    /// Writes dx [rows, hidden] and adds to the gradient of the head, or of the tied table.
    template <ProductInput<B> DLogits>
    void project_backward(Context<B>& context, ConstActivationView<B> x, DLogits dlogits,
                          MatrixView<B> dx) {
        if (head_) {
            head_->backward(context, x, dlogits, dx, Write::overwrite);
        } else {
            ops::linear_backward_weight(context, dlogits, x, table_.gradient_matrix());
            ops::linear_backward_input(context, dlogits, table_, dx);
        }
    }

    [[nodiscard]] bool is_tied() const { return !head_.has_value(); }

    void initialize(Random& random, double deviation) {
        table_.fill_normal(random, deviation);
        if (head_) {
            head_->initialize(random, deviation);
        }
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        visitor(table_);
        if (head_) {
            head_->visit_parameters(visitor);
        }
    }

private:
    Parameter<B> table_;
    std::optional<Linear<B>> head_;
};

}  // namespace mor
