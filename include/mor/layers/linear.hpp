// SPDX-License-Identifier: Apache-2.0
//
// A linear map without bias: y = x * weight^T.
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/ops/linear.hpp>

#include <string>
#include <utility>

namespace mor {

template <Backend B>
class Linear {
public:
    /// A weight [outputs, inputs] of that name. Throws ShapeError if an extent is not positive.
    Linear(std::string name, Index inputs, Index outputs)
        : weight_{std::move(name), {outputs, inputs}, WeightDecay::yes} {}

    /// y = x * weight^T or y += x * weight^T. x [rows, inputs], y [rows, outputs].
    template <ProductInput<B> X, ProductOutput<B> Y>
    void forward(Context<B>& context, X x, Y y, Write write = Write::overwrite) const {
        ops::linear(context, x, weight_, y, write);
    }

    /// Adds to the weight's gradient, and writes or adds dx [rows, inputs]. x as in forward, dy
    /// [rows, outputs].
    template <ProductInput<B> X, ProductInput<B> DY, ProductOutput<B> DX>
    void backward(Context<B>& context, X x, DY dy, DX dx, Write write) {
        backward_weight(context, x, dy);
        backward_input(context, dy, dx, write);
    }
    /// The first half alone, for an input that takes no gradient.
    template <ProductInput<B> X, ProductInput<B> DY>
    void backward_weight(Context<B>& context, X x, DY dy) {
        ops::linear_backward_weight(context, dy, x, weight_.gradient_matrix());
    }
    template <ProductInput<B> DY, ProductOutput<B> DX>
    void backward_input(Context<B>& context, DY dy, DX dx, Write write) const {
        ops::linear_backward_input(context, dy, weight_, dx, write);
    }

    [[nodiscard]] Index outputs() const { return weight_.shape()[0]; }

    void initialize(Random& random, double deviation) { weight_.fill_normal(random, deviation); }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        visitor(weight_);
    }

private:
    Parameter<B> weight_;
};

}  // namespace mor
