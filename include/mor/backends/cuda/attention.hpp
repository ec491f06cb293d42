// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cuda backend: a team has a tile of query rows and a head, and goes through the
// keys tile by tile with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022). A few
// rows, and paged keys, are the matter of attention_rows.hpp.
#pragma once

#include <mor/backends/cuda/attention_rows.hpp>
#include <mor/backends/cuda/attention_tiles.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

namespace mor {

namespace cuda::detail {

/// What the kernel is called with, and the work of one team.
template <class B>
struct AttentionForward {
    using T = typename B::Element;

    AttentionShape shape;
    ConstMatrixView<B> q;
    ConstMatrixView<B> k;
    ConstMatrixView<B> v;
    KeyRanges<B> ranges;
    MatrixView<B> out;
    MatrixView<B> logsumexp;
    TileSizes sizes;
    T scale;

    [[nodiscard]] std::size_t shared_bytes() const {
        const Index dim = shape.head_dim;
        const Index numbers = (2 * sizes.queries + sizes.keys) * (dim + 1) +
                              sizes.queries * (sizes.keys + 1) + 3 * sizes.queries;
        return static_cast<std::size_t>(numbers) * sizeof(T);
    }

    /// The rows [first, last) and one head.
    template <class Team>
    MOR_HOST_DEVICE void run(Team& team, Index first, Index last, Index head) const {
        const View<const Index, 1> begin = in_kernel(ranges.begin);
        const View<const Index, 1> end = in_kernel(ranges.end);
        while (first < last) {
            const QueryRun run = query_run(begin, end, first, last);
            run_sequence(team, first, static_cast<int>(run.last - first), begin[first], run.key_end,
                         head);
            first = run.last;
        }
    }

private:
    /// The softmax of a query so far: its largest score, the sum of its exponentials, and by what
    /// earlier ones shrink when a tile has a larger score.
    struct Softmax {
        T* largest;
        T* sum;
        T* decay;
    };

    /// `count` rows that share their begin, and keys [key, key_end) of their ranges.
    template <class Team>
    MOR_HOST_DEVICE void run_sequence(Team& team, Index first, int count, Index key, Index key_end,
                                      Index head) const {
        const auto dim = static_cast<int>(shape.head_dim);
        const Index kv_column = head / (shape.heads / shape.kv_heads) * shape.head_dim;
        TileMaker<T> memory{team.template shared<T>()};
        const Tile<T> queries = memory.tile(sizes.queries, dim);
        const Tile<T> sums = memory.tile(sizes.queries, dim);
        const Tile<T> keys_or_values = memory.tile(sizes.keys, dim);
        const Tile<T> scores = memory.tile(sizes.queries, sizes.keys);
        const Softmax softmax{memory.numbers(sizes.queries), memory.numbers(sizes.queries),
                              memory.numbers(sizes.queries)};

        team.sync();  // with the rows before
        load_rows(team, in_kernel(q), first, count, head * dim, dim, queries);
        clear(team, count, dim, sums, softmax);
        for (; key < key_end; key += sizes.keys) {
            const int num_keys =
                key_end - key < sizes.keys ? static_cast<int>(key_end - key) : sizes.keys;
            team.sync();
            load_rows(team, in_kernel(k), key, num_keys, kv_column, dim, keys_or_values);
            team.sync();
            multiply_rows(team, queries, count, keys_or_values, num_keys, dim, scores);
            team.sync();
            load_rows(team, in_kernel(v), key, num_keys, kv_column, dim, keys_or_values);
            for (Index i = team.rank(); i < count; i += team.size()) {
                const Index visible = in_kernel(ranges.end)[first + i] - key;
                add_to_softmax(static_cast<int>(i), visible, num_keys, scores, softmax);
            }
            team.sync();
            add_weighted_rows<Weights::by_row>(team, scores, count, num_keys, keys_or_values, dim,
                                               T{1}, softmax.decay, sums);
        }
        team.sync();
        write(team, first, count, head, sums, softmax);
    }

    template <class Team>
    MOR_HOST_DEVICE void clear(Team& team, int count, int dim, const Tile<T>& sums,
                               const Softmax& softmax) const {
        const auto threads = static_cast<int>(team.size());
        for (int e = static_cast<int>(team.rank()); e < count * dim; e += threads) {
            sums(e / dim, e % dim) = T{0};
        }
        for (int i = static_cast<int>(team.rank()); i < count; i += threads) {
            softmax.largest[i] = -std::numeric_limits<T>::infinity();
            softmax.sum[i] = T{0};
        }
    }

    /// Scores of row i become weights; those beyond the `visible` first are 0.
    MOR_HOST_DEVICE void add_to_softmax(int i, Index visible, int num_keys, const Tile<T>& scores,
                                        const Softmax& softmax) const {
        T largest = softmax.largest[i];
        for (int j = 0; j < num_keys && j < visible; ++j) {
            const T score = scale * scores(i, j);
            largest = score > largest ? score : largest;
        }
        T sum{0};
        for (int j = 0; j < num_keys; ++j) {
            const T weight = j < visible ? std::exp(scale * scores(i, j) - largest) : T{0};
            scores(i, j) = weight;
            sum += weight;
        }
        const T decay = std::exp(softmax.largest[i] - largest);
        softmax.decay[i] = decay;
        softmax.sum[i] = decay * softmax.sum[i] + sum;
        softmax.largest[i] = largest;
    }

    template <class Team>
    MOR_HOST_DEVICE void write(Team& team, Index first, int count, Index head, const Tile<T>& sums,
                               const Softmax& softmax) const {
        const auto dim = static_cast<int>(shape.head_dim);
        const auto threads = static_cast<int>(team.size());
        for (int e = static_cast<int>(team.rank()); e < count * dim; e += threads) {
            const int i = e / dim;
            const int c = e % dim;
            in_kernel(out)(first + i, head * dim + c) = sums(i, c) / softmax.sum[i];
        }
        for (int i = static_cast<int>(team.rank()); i < count; i += threads) {
            in_kernel(logsumexp)(first + i, head) = softmax.largest[i] + std::log(softmax.sum[i]);
        }
    }
};

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::Attention, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const AttentionShape& shape, ConstMatrixView<B> q,
                    ConstMatrixView<B> k, ConstMatrixView<B> v, const KeyRanges<B>& ranges,
                    MatrixView<B> out, MatrixView<B> logsumexp) {
        constexpr Index key_bytes = 16'896;
        constexpr Index fewest_rows = 128;  // fewer give a GPU too few tiles
        const auto& system = context.backend().system();
        const T scale = T{1} / std::sqrt(static_cast<T>(shape.head_dim));
        const Index rows = q.rows();
        const Index heads = shape.heads;
        if (ranges.is_paged() || rows < fewest_rows) {
            cuda::detail::attend_rows<B>(context, {shape, q, k, v, ranges}, out, logsumexp);
            return;
        }
        const auto sizes = cuda::detail::tile_sizes<T>(shape.head_dim, key_bytes);
        const cuda::detail::AttentionForward<B> forward{shape, q,         k,     v,    ranges,
                                                        out,   logsumexp, sizes, scale};
        const Index tile = sizes.queries;
        system.for_each_team((rows + tile - 1) / tile * heads, forward.shared_bytes(),
                             [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                                 const Index first = i / heads * tile;
                                 const Index end = first + tile;
                                 forward.run(team, first, end < rows ? end : rows, i % heads);
                             });
    }
};

}  // namespace mor
