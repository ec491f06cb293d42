// SPDX-License-Identifier: Apache-2.0
//
// The Llama-style decoder block: h = x + attention(norm(x)), y = h + swiglu(norm(h)).
#pragma once

#include <mor/layers/attention.hpp>
#include <mor/layers/concept.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/layers/swiglu.hpp>

#include <string_view>

namespace mor {

/// `Relaxation` names the parts, and so what the uses of a shared block do not share.
template <Backend B, class Relaxation = NoRelaxation>
    requires RelaxationPolicy<Relaxation, B>
class DecoderBlock {
    using Norm = typename Relaxation::template Norm<B>;
    using Output = typename Relaxation::template Output<B>;

public:
    static constexpr std::string_view name = "llama";
    static constexpr bool ignores_use = true;  // only its relaxation does not

    struct Saved {
        typename RmsNorm<B>::Saved attention_norm;
        typename Attention<B, Relaxation>::Saved attention;
        typename RmsNorm<B>::Saved mlp_norm;
        typename SwiGlu<B, Relaxation>::Saved mlp;
        typename Output::Saved output;
    };

    DecoderBlock(const LayerUses& uses, const ModelConfig& config,
                 const typename Relaxation::Options& options = {})
        : attention_norm_{make_norm(uses, "input_layernorm.weight", options, config)},
          attention_{uses, config, options},
          mlp_norm_{make_norm(uses, "post_attention_layernorm.weight", options, config)},
          mlp_{uses, config, options},
          output_{make_output(uses, options, config)} {}

    /// Changes x [rows, hidden] in place; copies of it, in the arena, are kept for backward.
    template <KeyValueSource<B> Source>
    void forward(Context<B>& context, MatrixView<B> x, const LayerInput<B>& input, Source& source,
                 Saved& saved) const {
        const auto normed = [&](const Norm& norm, typename RmsNorm<B>::Saved& own) {
            return norm.at(input.use).forward_copying(context, x, own);
        };
        attention_.forward(context, input, normed(attention_norm_, saved.attention_norm), source, x,
                           saved.attention);
        mlp_.forward(context, input.use, normed(mlp_norm_, saved.mlp_norm), x, saved.mlp);
        if constexpr (!Output::is_empty) {
            output_.forward(context, input.use, x, saved.output);
        }
    }

    /// On entry dx is the gradient of the output, on exit that of the input.
    template <KeyValueGradientSource<B> Source>
    void backward(Context<B>& context, const Saved& saved, const LayerInput<B>& input,
                  Source& source, MatrixView<B> dx) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        if constexpr (!Output::is_empty) {
            output_.backward(context, input.use, saved.output, dx);
        }
        const MatrixView<B> dnormed = context.matrix(dx.rows(), dx.columns());
        mlp_.backward(context, input.use, saved.mlp, dx, dnormed);
        mlp_norm_.at(input.use).backward(context, saved.mlp_norm, dnormed, dx);
        attention_.backward(context, input, saved.attention, source, dx, dnormed);
        attention_norm_.at(input.use).backward(context, saved.attention_norm, dnormed, dx);
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
        output_.visit_parameters(visitor);
    }

private:
    static Norm make_norm(const LayerUses& uses, const char* suffix,
                          const typename Relaxation::Options& options, const ModelConfig& config) {
        return detail::make_part<Norm>(uses, suffix, options, config.hidden_size,
                                       config.rms_norm_epsilon);
    }
    static Output make_output(const LayerUses& uses, const typename Relaxation::Options& options,
                              const ModelConfig& config) {
        if constexpr (Output::is_empty) {
            return detail::make_part<Output>(uses, "", options);
        } else {
            return detail::make_part<Output>(uses, "recursion_encoding", options,
                                             config.hidden_size);
        }
    }

    Norm attention_norm_;
    Attention<B, Relaxation> attention_;
    Norm mlp_norm_;
    SwiGlu<B, Relaxation> mlp_;
    Output output_;
};

}  // namespace mor
