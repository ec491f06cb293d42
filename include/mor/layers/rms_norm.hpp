// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm with its weight.
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/ops/rms_norm.hpp>

#include <string>
#include <utility>
#include <vector>

namespace mor {

template <Backend B>
class RmsNorm {
public:
    /// What backward needs: the input and one number a row.
    struct Saved {
        ConstMatrixView<B> x;
        VectorView<B> inverse_rms;
    };

    /// A weight [width] of ones.
    RmsNorm(std::string name, Index width, double epsilon)
        : weight_{std::move(name), {width}, WeightDecay::no}, epsilon_{epsilon} {
        weight_.fill(1.0);
    }

    /// Returns the normalised rows [rows, width], for products. `x` must stay as it is until
    /// backward.
    [[nodiscard]] ActivationView<B> forward(Context<B>& context, ConstMatrixView<B> x,
                                            Saved& saved) const {
        saved = {x, context.vector(x.rows())};
        return write(context, x, {}, saved);
    }
    /// The same for an x that changes before backward: a copy is kept, made in the same pass.
    [[nodiscard]] ActivationView<B> forward_copying(Context<B>& context, ConstMatrixView<B> x,
                                                    Saved& saved) const {
        const MatrixView<B> copy = context.matrix(x.rows(), x.columns());
        saved = {copy, context.vector(x.rows())};
        return write(context, x, copy, saved);
    }

    /// Adds to dx [rows, width] and to the weight's gradient, given dy [rows, width].
    void backward(Context<B>& context, const Saved& saved, ConstMatrixView<B> dy,
                  MatrixView<B> dx) {
        ops::rms_norm_backward(context, dy, saved.x, std::as_const(weight_).value(),
                               saved.inverse_rms, dx, weight_.gradient());
    }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        visitor(weight_);
    }

private:
    ActivationView<B> write(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> copy,
                            Saved& saved) const {
        const ActivationView<B> y = context.activation_matrix(x.rows(), x.columns());
        ops::rms_norm(context, x, weight_.value(), epsilon_, y, saved.inverse_rms, copy);
        return y;
    }

    Parameter<B> weight_;
    double epsilon_;
};

}  // namespace mor
