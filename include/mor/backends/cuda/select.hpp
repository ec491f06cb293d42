// SPDX-License-Identifier: Apache-2.0
//
// Selection of the Cuda backend. The best k of each sequence: two stable sorts, the second by
// sequence, after which a row's place says its rank.
#pragma once

#include <mor/backends/cuda/arena_allocator.hpp>
#include <mor/backends/cuda/compaction.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/ops/select.hpp>

#include <thrust/functional.h>
#include <thrust/sort.h>

#include <limits>

namespace mor {

template <class T, class S>
struct Kernel<op::TopK, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstVectorView<B> scores, ConstIndexView<B> offsets,
                     ConstIndexView<B> k, IndexView<B> kept,
                     [[maybe_unused]] std::optional<Index> known) {
        const auto& system = context.backend().system();
        const Index rows = scores.size();
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const VectorView<B> sorted = context.vector(rows);
        const IndexView<B> order = context.indices(rows);
        system.for_each(rows, [=] MOR_HOST_DEVICE(Index i) {
            const T score = cuda::in_kernel(scores)[i];
            // A NaN is not itself. The sum makes -0 the same as 0.
            cuda::in_kernel(sorted)[i] =
                score == score ? score + T{0} : -std::numeric_limits<T>::infinity();
            cuda::in_kernel(order)[i] = i;
        });
        sort_by_key(context, sorted, order, thrust::greater<T>{});

        const IndexView<B> sequences = context.indices(rows);
        system.for_each(rows, [=] MOR_HOST_DEVICE(Index place) {
            cuda::in_kernel(sequences)[place] =
                cuda::detail::sequence_of(cuda::in_kernel(offsets), cuda::in_kernel(order)[place]);
        });
        sort_by_key(context, sequences, order, thrust::less<Index>{});

        const IndexView<B> is_kept = context.indices(rows);
        system.for_each(rows, [=] MOR_HOST_DEVICE(Index place) {
            const Index s = cuda::in_kernel(sequences)[place];
            const bool has_sequence = s >= 0 && s < k.size();
            const bool is_best =
                has_sequence && place - cuda::in_kernel(offsets)[s] < cuda::in_kernel(k)[s];
            cuda::in_kernel(is_kept)[cuda::in_kernel(order)[place]] = is_best ? 1 : 0;
        });
        return cuda::detail::compact(
            context, rows,
            [=] MOR_HOST_DEVICE(Index i) { return cuda::in_kernel(is_kept)[i] == 1; }, kept);
    }

private:
    template <class Key, class Before>
    static void sort_by_key(Context<B>& context, View<Key, 1, typename B::Space> keys,
                            IndexView<B> values, const Before& before) {
        cuda::ArenaAllocator allocator{context.arena()};
        context.backend().system().run_algorithm(
            "thrust::stable_sort_by_key", allocator, [&](const auto& policy) {
                thrust::stable_sort_by_key(policy, keys.data(), keys.data() + keys.size(),
                                           values.data(), before);
            });
    }
};

template <class T, class S>
struct Kernel<op::SelectGreater, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstVectorView<B> scores, double bound,
                     IndexView<B> kept) {
        return cuda::detail::compact(
            context, scores.size(),
            [=] MOR_HOST_DEVICE(Index i) { return double{cuda::in_kernel(scores)[i]} > bound; },
            kept);
    }
};

template <class T, class S>
struct Kernel<op::SelectAtLeast, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstIndexView<B> depth, ConstIndexView<B> rows,
                     Index bound, IndexView<B> kept) {
        return cuda::detail::compact(
            context, rows.size(),
            [=] MOR_HOST_DEVICE(Index i) {
                return cuda::in_kernel(depth)[cuda::in_kernel(rows)[i]] >= bound;
            },
            kept);
    }
};

template <class T, class S>
struct Kernel<op::CapacityCounts, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> offsets, double capacity,
                    IndexView<B> out) {
        context.backend().system().for_each(out.size(), [=] MOR_HOST_DEVICE(Index s) {
            const View<const Index, 1> starts = cuda::in_kernel(offsets);
            cuda::in_kernel(out)[s] = capacity_count(starts[s + 1] - starts[s], capacity);
        });
    }
};

// A team a value: values are few, being depths.
template <class T, class S>
struct Kernel<op::CountValues, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> values, IndexView<B> counts) {
        context.backend().system().for_each_team(
            counts.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index value) {
                Index found = 0;
                for (Index i = team.rank(); i < values.size(); i += team.size()) {
                    found += cuda::in_kernel(values)[i] == value ? 1 : 0;
                }
                const Index count = team.sum(found);
                if (team.rank() == 0) {
                    cuda::in_kernel(counts)[value] += count;
                }
            });
    }
};

}  // namespace mor
