// SPDX-License-Identifier: Apache-2.0
//
// Embedding of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/ops/embedding.hpp>

#include <algorithm>

namespace mor {

template <class T, class Factor>
struct Kernel<op::Embedding, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const TokenId, 1> tokens,
                    View<const T, 2> table, View<T, 2> out) {
        const Index grain = cpu::detail::grain_rows(table.columns());
        context.backend().parallel_for(tokens.size(), grain, [&](Index first, Index last) {
            for (Index i = first; i < last; ++i) {
                std::copy_n(table.row(tokens[i]).data(), table.columns(), out.row(i).data());
            }
        });
    }
};

template <class T, class Factor>
struct Kernel<op::EmbeddingBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const TokenId, 1> tokens,
                    View<const T, 2> dout, View<T, 2> dtable) {
        using namespace cpu::detail;
        // Threads own columns, so that repeated tokens add up in row order.
        const Index grain = grain_rows(tokens.size());
        for_parts(context, dtable.columns(), grain, [&](Index first, Index last) {
            for (Index i = 0; i < tokens.size(); ++i) {
                block(dtable, tokens[i], 1, first, last - first) +=
                    block(dout, i, 1, first, last - first);
            }
        });
    }
};

}  // namespace mor
