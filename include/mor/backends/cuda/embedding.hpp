// SPDX-License-Identifier: Apache-2.0
//
// Embedding of the Cuda backend. Backward, a team adds up all rows of one token, in their order.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rows.hpp>
#include <mor/ops/embedding.hpp>
#include <mor/ops/rows.hpp>

#include <cstddef>

namespace mor {

// out[i] = table[tokens[i]]
template <class T, class S>
struct Kernel<op::Embedding, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstTokenView<B> tokens, ConstMatrixView<B> table,
                    MatrixView<B> out) {
        context.backend().system().for_each_team(
            tokens.size(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const TokenId token = cuda::in_kernel(tokens)[i];
                for (Index j = team.rank(); j < table.columns(); j += team.size()) {
                    cuda::in_kernel(out)(i, j) = cuda::in_kernel(table)(token, j);
                }
            });
    }
};

// dtable[tokens[i]] += dout[i]
template <class T, class S>
struct Kernel<op::EmbeddingBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstTokenView<B> tokens, ConstMatrixView<B> dout,
                    MatrixView<B> dtable) {
        const auto& system = context.backend().system();
        const Index rows = tokens.size();
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const IndexView<B> numbers = context.indices(rows);
        const auto sorted = context.arena().template make<TokenId, 1>({rows});
        const IndexView<B> order = context.indices(rows);
        ops::number_rows<B>(context, numbers);
        system.sort({tokens, numbers, sorted, order},
                    context.arena().template make<std::byte, 1>({system.sort_bytes(rows)}));
        system.for_each_team(rows, [=] MOR_KERNEL(typename S::Team & team, Index first) {
            const View<const TokenId, 1> ids = cuda::in_kernel(sorted);
            const TokenId token = ids[first];
            if (first > 0 && ids[first - 1] == token) {
                return;  // the team of the token's first row is at it
            }
            Index last = first + 1;
            while (last < rows && ids[last] == token) {
                ++last;
            }
            for (Index j = team.rank(); j < dtable.columns(); j += team.size()) {
                T sum = cuda::in_kernel(dtable)(token, j);
                for (Index i = first; i < last; ++i) {
                    sum += cuda::in_kernel(dout)(cuda::in_kernel(order)[i], j);
                }
                cuda::in_kernel(dtable)(token, j) = sum;
            }
        });
    }
};

}  // namespace mor
