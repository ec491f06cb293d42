// SPDX-License-Identifier: Apache-2.0
//
// A matrix of elements as the activations that products read.
#pragma once

#include <mor/core/backend.hpp>

#include <concepts>

namespace mor {

namespace op {
struct ToActivations {};  // run(context, from, to): only where ActivationElement is not Element
}  // namespace op

namespace ops {

/// x itself, or, where products round what they read, a copy in the arena that is rounded already:
/// for what several products read. x [rows, columns].
template <Backend B>
[[nodiscard]] ConstActivationView<B> to_activations(Context<B>& context, ConstMatrixView<B> x) {
    if constexpr (std::same_as<ActivationElement<B>, typename B::Element>) {
        return x;
    } else {
        const ActivationView<B> rounded = context.activation_matrix(x.rows(), x.columns());
        Kernel<op::ToActivations, B>::run(context, x, rounded);
        return rounded;
    }
}

}  // namespace ops
}  // namespace mor
