// SPDX-License-Identifier: Apache-2.0
//
// Token ids to vectors, and the gradient of the table.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/shape_check.hpp>

namespace mor {

namespace op {
struct Embedding {};
struct EmbeddingBackward {};
}  // namespace op

namespace ops {

/// out[i] = table[tokens[i]]. tokens [rows], each in [0, vocabulary); table [vocabulary, hidden],
/// out [rows, hidden]. The caller has checked the ids (see Model::forward).
template <Backend B>
void embedding(Context<B>& context, ConstTokenView<B> tokens, ConstMatrixView<B> table,
               MatrixView<B> out) {
    expect_extents("embedding", "out", out, {tokens.size(), table.columns()});
    Kernel<op::Embedding, B>::run(context, tokens, table, out);
}

/// dtable[tokens[i]] += dout[i]; repeated tokens add up, in row order.
template <Backend B>
void embedding_backward(Context<B>& context, ConstTokenView<B> tokens, ConstMatrixView<B> dout,
                        MatrixView<B> dtable) {
    expect_extents("embedding_backward", "dout", dout, {tokens.size(), dtable.columns()});
    Kernel<op::EmbeddingBackward, B>::run(context, tokens, dout, dtable);
}

}  // namespace ops
}  // namespace mor
