// SPDX-License-Identifier: Apache-2.0
//
// The ragged structure of packed rows, of the Cuda backend: a thread a row, which looks for its
// sequence.
#pragma once

#include <mor/backends/cuda/compaction.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/core/random.hpp>
#include <mor/ops/rows.hpp>

#include <cstdint>

namespace mor {

template <class T, class S>
struct Kernel<op::SelectRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Rows<B>& rows, ConstIndexView<B> kept,
                    IndexView<B> offsets, IndexView<B> positions) {
        const auto& system = context.backend().system();
        const ConstIndexView<B> old_positions = rows.positions;
        const ConstIndexView<B> old_offsets = rows.offsets;
        system.for_each(kept.size(), [=] MOR_KERNEL(Index i) {
            cuda::in_kernel(positions)[i] =
                cuda::in_kernel(old_positions)[cuda::in_kernel(kept)[i]];
        });
        system.for_each(offsets.size(), [=] MOR_KERNEL(Index s) {
            cuda::in_kernel(offsets)[s] = cuda::detail::lower_bound(
                cuda::in_kernel(kept), 0, kept.size(), cuda::in_kernel(old_offsets)[s]);
        });
    }
};

template <class T, class S>
struct Kernel<op::VisibleKeys, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Rows<B>& queries, const Rows<B>& keys,
                    IndexView<B> begin, IndexView<B> end) {
        const auto& system = context.backend().system();
        const ConstIndexView<B> query_offsets = queries.offsets;
        const ConstIndexView<B> query_positions = queries.positions;
        const ConstIndexView<B> key_offsets = keys.offsets;
        const ConstIndexView<B> key_positions = keys.positions;
        system.for_each(queries.size(), [=] MOR_KERNEL(Index i) {
            const Index s = cuda::detail::sequence_of(cuda::in_kernel(query_offsets), i);
            const View<const Index, 1> offsets = cuda::in_kernel(key_offsets);
            cuda::in_kernel(begin)[i] = offsets[s];
            cuda::in_kernel(end)[i] =
                cuda::detail::lower_bound(cuda::in_kernel(key_positions), offsets[s],
                                          offsets[s + 1], cuda::in_kernel(query_positions)[i] + 1);
        });
    }
};

template <class T, class S>
struct Kernel<op::AddPairs, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> begin, ConstIndexView<B> end,
                    double factor, SumView<B> sum) {
        context.backend().system().for_each_team(
            1, [=] MOR_KERNEL(typename S::Team & team, Index /*i*/) {
                Index own = 0;
                for (Index i = team.rank(); i < begin.size(); i += team.size()) {
                    own += cuda::in_kernel(end)[i] - cuda::in_kernel(begin)[i];
                }
                const Index pairs = team.sum(own);
                if (team.rank() == 0) {
                    cuda::in_kernel(sum)[0] += factor * static_cast<double>(pairs);
                }
            });
    }
};

template <class T, class S>
struct Kernel<op::ComposeIndices, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> outer, ConstIndexView<B> inner,
                    IndexView<B> out) {
        context.backend().system().for_each(inner.size(), [=] MOR_KERNEL(Index i) {
            cuda::in_kernel(out)[i] = cuda::in_kernel(outer)[cuda::in_kernel(inner)[i]];
        });
    }
};

template <class T, class S>
struct Kernel<op::NumberRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, IndexView<B> out) {
        context.backend().system().for_each(
            out.size(), [=] MOR_KERNEL(Index i) { cuda::in_kernel(out)[i] = i; });
    }
};

template <class T, class S>
struct Kernel<op::FillIndices, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, Index value, IndexView<B> out) {
        context.backend().system().for_each(
            out.size(), [=] MOR_KERNEL(Index i) { cuda::in_kernel(out)[i] = value; });
    }
};

template <class T, class S>
struct Kernel<op::UniformByPosition, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Rows<B>& rows, Draw draw, std::uint64_t seed,
                    std::uint64_t stream, VectorView<B> out) {
        const std::uint64_t base = Random{seed, stream}.bits();
        const bool by_position = draw == Draw::by_position;
        const ConstIndexView<B> offsets = rows.offsets;
        const ConstIndexView<B> positions = rows.positions;
        context.backend().system().for_each(rows.size(), [=] MOR_KERNEL(Index i) {
            const Index s =
                by_position ? 0 : cuda::detail::sequence_of(cuda::in_kernel(offsets), i);
            Random random{base + static_cast<std::uint64_t>(s),
                          static_cast<std::uint64_t>(cuda::in_kernel(positions)[i])};
            cuda::in_kernel(out)[i] = static_cast<T>(random.uniform());
        });
    }
};

}  // namespace mor
