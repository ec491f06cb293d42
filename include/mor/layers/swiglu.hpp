// SPDX-License-Identifier: Apache-2.0
//
// The SwiGLU feed-forward layer: down(silu(gate(x)) * up(x)).
#pragma once

#include <mor/layers/linear.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/swiglu.hpp>

#include <string>

namespace mor {

template <Backend B>
class SwiGlu {
public:
    struct Saved {
        ConstMatrixView<B> x;
        MatrixView<B> gate;  // this and the next two: [rows, intermediate]
        MatrixView<B> up;
        MatrixView<B> product;
    };

    /// Three projections "<prefix>gate_proj.weight", up and down.
    SwiGlu(const std::string& prefix, const ModelConfig& config)
        : gate_{prefix + "gate_proj.weight", config.hidden_size, config.intermediate_size},
          up_{prefix + "up_proj.weight", config.hidden_size, config.intermediate_size},
          down_{prefix + "down_proj.weight", config.intermediate_size, config.hidden_size} {}

    /// residual += swiglu(x). x, residual [rows, hidden].
    void forward(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> residual,
                 Saved& saved) const {
        const auto make = [&] { return context.matrix(x.rows(), gate_.outputs()); };
        saved = {x, make(), make(), make()};
        gate_.forward(context, x, saved.gate);
        up_.forward(context, x, saved.up);
        ops::swiglu<B>(context, saved.gate, saved.up, saved.product);
        down_.forward(context, saved.product, residual, Write::accumulate);
    }

    /// Writes dx [rows, hidden] from dresidual.
    void backward(Context<B>& context, const Saved& saved, ConstMatrixView<B> dresidual,
                  MatrixView<B> dx) {
        const MatrixView<B> dgate = context.matrix(dresidual.rows(), gate_.outputs());
        const MatrixView<B> dup = context.matrix(dresidual.rows(), gate_.outputs());
        down_.backward(context, saved.product, dresidual, dup, Write::overwrite);
        ops::swiglu_backward<B>(context, saved.gate, saved.up, dup, dgate, dup);
        gate_.backward(context, saved.x, dgate, dx, Write::overwrite);
        up_.backward(context, saved.x, dup, dx, Write::accumulate);
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
    Linear<B> gate_;
    Linear<B> up_;
    Linear<B> down_;
};

}  // namespace mor
