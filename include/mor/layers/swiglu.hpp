// SPDX-License-Identifier: Apache-2.0
//
// The SwiGLU feed-forward layer: down(silu(gate(x)) * up(x)).
#pragma once

#include <mor/layers/layer_uses.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/swiglu.hpp>
#include <mor/ops/to_activations.hpp>

namespace mor {

template <Backend B, class Relaxation = NoRelaxation>
    requires RelaxationPolicy<Relaxation, B>
class SwiGlu {
    using Projection = typename Relaxation::template Projection<B>;

public:
    struct Saved {
        ConstActivationView<B> x;
        ActivationView<B> gate;  // this and the next two: [rows, intermediate]
        ActivationView<B> up;
        ActivationView<B> product;
    };

    /// Three projections "mlp.gate_proj.weight", up and down.
    SwiGlu(const LayerUses& uses, const ModelConfig& config,
           const typename Relaxation::Options& options = {})
        : width_{config.intermediate_size},
          gate_{detail::make_part<Projection>(uses, "mlp.gate_proj.weight", options,
                                              config.hidden_size, width_)},
          up_{detail::make_part<Projection>(uses, "mlp.up_proj.weight", options, config.hidden_size,
                                            width_)},
          down_{detail::make_part<Projection>(uses, "mlp.down_proj.weight", options, width_,
                                              config.hidden_size)} {}

    /// residual += swiglu(x). x, residual [rows, hidden].
    void forward(Context<B>& context, Index use, ConstActivationView<B> x, MatrixView<B> residual,
                 Saved& saved) const {
        const auto make = [&] { return context.activation_matrix(x.rows(), width_); };
        saved = {x, make(), make(), make()};
        gate_.at(use).forward(context, x, saved.gate);
        up_.at(use).forward(context, x, saved.up);
        ops::swiglu<B>(context, saved.gate, saved.up, saved.product);
        down_.at(use).forward(context, saved.product, residual, Write::accumulate);
    }

    /// Writes dx [rows, hidden] from dresidual.
    void backward(Context<B>& context, Index use, const Saved& saved, ConstMatrixView<B> dresidual,
                  MatrixView<B> dx) {
        const ActivationView<B> dgate = context.activation_matrix(dresidual.rows(), width_);
        const ActivationView<B> dup = context.activation_matrix(dresidual.rows(), width_);
        const ConstActivationView<B> dy = ops::to_activations(context, dresidual);
        down_.at(use).backward(context, saved.product, dy, dup, Write::overwrite);
        ops::swiglu_backward<B>(context, saved.gate, saved.up, dup, dgate, dup);
        gate_.at(use).backward(context, saved.x, dgate, dx, Write::overwrite);
        up_.at(use).backward(context, saved.x, dup, dx, Write::accumulate);
    }

    void initialize(Random& random, double deviation) {
        gate_.initialize(random, deviation);
        up_.initialize(random, deviation);
        down_.initialize(random, deviation);
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        gate_.visit_parameters(visitor);
        up_.visit_parameters(visitor);
        down_.visit_parameters(visitor);
    }

private:
    Index width_;
    Projection gate_;
    Projection up_;
    Projection down_;
};

}  // namespace mor
