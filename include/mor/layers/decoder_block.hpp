// SPDX-License-Identifier: Apache-2.0
//
// The Llama-style decoder block: h = x + attention(norm(x)), y = h + swiglu(norm(h)).
#pragma once

#include <mor/layers/attention.hpp>
#include <mor/layers/concept.hpp>
#include <mor/layers/rms_norm.hpp>
#include <mor/layers/swiglu.hpp>
#include <mor/ops/copy.hpp>

#include <string>
#include <string_view>

namespace mor {

template <Backend B>
class DecoderBlock {
public:
    static constexpr std::string_view name = "llama";

    struct Saved {
        typename RmsNorm<B>::Saved attention_norm;
        typename Attention<B>::Saved attention;
        typename RmsNorm<B>::Saved mlp_norm;
        typename SwiGlu<B>::Saved mlp;
    };

    /// `prefix` begins the parameters' names, for example "model.layers.0.".
    DecoderBlock(const std::string& prefix, const ModelConfig& config)
        : attention_norm_{prefix + "input_layernorm.weight", config.hidden_size,
                          config.rms_norm_epsilon},
          attention_{prefix + "self_attn.", config},
          mlp_norm_{prefix + "post_attention_layernorm.weight", config.hidden_size,
                    config.rms_norm_epsilon},
          mlp_{prefix + "mlp.", config} {}

    /// Changes x [rows, hidden] in place; copies of it, in the arena, are kept for backward.
    template <KeyValueSource<B> Source>
    void forward(Context<B>& context, MatrixView<B> x, ConstIndexView<B> positions,
                 const Rotary<B>& rotary, Source& source, Saved& saved) const {
        attention_.forward(context,
                           attention_norm_.forward(context, copy(context, x), saved.attention_norm),
                           positions, rotary, source, x, saved.attention);
        mlp_.forward(context, mlp_norm_.forward(context, copy(context, x), saved.mlp_norm), x,
                     saved.mlp);
    }

    /// On entry dx is the gradient of the output, on exit that of the input.
    void backward(Context<B>& context, const Saved& saved, const Rotary<B>& rotary,
                  const KeyValueGradients<B>& gradients, bool owns, MatrixView<B> dx) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const MatrixView<B> dnormed = context.matrix(dx.rows(), dx.columns());
        mlp_.backward(context, saved.mlp, dx, dnormed);
        mlp_norm_.backward(context, saved.mlp_norm, dnormed, dx);
        attention_.backward(context, saved.attention, rotary, gradients, owns, dx, dnormed);
        attention_norm_.backward(context, saved.attention_norm, dnormed, dx);
    }

    void initialize(Random& random, double deviation) {
        attention_.initialize(random, deviation);
        mlp_.initialize(random, deviation);
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        attention_norm_.visit_parameters(visitor);
        attention_.visit_parameters(visitor);
        mlp_norm_.visit_parameters(visitor);
        mlp_.visit_parameters(visitor);
    }

private:
    static ConstMatrixView<B> copy(Context<B>& context, ConstMatrixView<B> x) {
        const MatrixView<B> kept = context.matrix(x.rows(), x.columns());
        ops::copy(context, x, kept);
        return kept;
    }

    RmsNorm<B> attention_norm_;
    Attention<B> attention_;
    RmsNorm<B> mlp_norm_;
    SwiGlu<B> mlp_;
};

}  // namespace mor
