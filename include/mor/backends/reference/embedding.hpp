// SPDX-License-Identifier: Apache-2.0
//
// Embedding of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/embedding.hpp>

namespace mor {

// out[i] = table[tokens[i]]
template <class T>
struct Kernel<op::Embedding, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const TokenId, 1> tokens,
                    View<const T, 2> table, View<T, 2> out) {
        for (Index i = 0; i < tokens.size(); ++i) {
            for (Index j = 0; j < table.columns(); ++j) {
                out(i, j) = table(tokens[i], j);
            }
        }
    }
};

// dtable[tokens[i]] += dout[i]
template <class T>
struct Kernel<op::EmbeddingBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const TokenId, 1> tokens,
                    View<const T, 2> dout, View<T, 2> dtable) {
        for (Index i = 0; i < tokens.size(); ++i) {
            for (Index j = 0; j < dtable.columns(); ++j) {
                dtable(tokens[i], j) += dout(i, j);
            }
        }
    }
};

}  // namespace mor
