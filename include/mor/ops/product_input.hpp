// SPDX-License-Identifier: Apache-2.0
//
// A matrix of elements as products read it.
#pragma once

#include <mor/core/backend.hpp>

#include <concepts>

namespace mor {

namespace op {
struct ToProductInput {};  // run(context, from, to): only where InputElement is not Element
}  // namespace op

namespace ops {

/// x itself, or, where products round what they read, a copy in the arena that is rounded already:
/// for what several products read. x [rows, columns].
template <Backend B>
[[nodiscard]] ConstInputView<B> to_product_input(Context<B>& context, ConstMatrixView<B> x) {
    if constexpr (std::same_as<InputElement<B>, typename B::Element>) {
        return x;
    } else {
        const InputView<B> rounded = context.input_matrix(x.rows(), x.columns());
        Kernel<op::ToProductInput, B>::run(context, x, rounded);
        return rounded;
    }
}

}  // namespace ops
}  // namespace mor
