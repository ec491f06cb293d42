// SPDX-License-Identifier: Apache-2.0
//
// The cosines and sines of the rotary embedding for every position, computed once in double.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/rope.hpp>

#include <cmath>
#include <vector>

namespace mor {

template <Backend B>
class Rotary {
    using Element = typename B::Element;

public:
    Rotary(Index positions, Index head_dim, double theta)
        : cosine_{{positions, head_dim / 2}}, sine_{{positions, head_dim / 2}} {
        std::vector<Element> cosine;
        std::vector<Element> sine;
        for (Index position = 0; position < positions; ++position) {
            for (Index i = 0; i < head_dim / 2; ++i) {
                const double exponent =
                    2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
                const double angle = static_cast<double>(position) * std::pow(theta, -exponent);
                cosine.push_back(static_cast<Element>(std::cos(angle)));
                sine.push_back(static_cast<Element>(std::sin(angle)));
            }
        }
        from_host(cosine_.view(), cosine);
        from_host(sine_.view(), sine);
    }

    /// Turns x [rows, heads * head_dim] in place by the rows' positions.
    template <ProductOutput<B> X>
    void rotate(Context<B>& context, ConstIndexView<B> positions, X x, Rotation rotation) const {
        ops::rope(context, positions, cosine_.view(), sine_.view(), x, rotation);
    }

private:
    Tensor<Element, 2, typename B::Space> cosine_;
    Tensor<Element, 2, typename B::Space> sine_;
};

}  // namespace mor
