// SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention, in one order and without atomics: teams with a tile of queries compute
// dq, then teams with a tile of keys compute dk and dv. With p = exp(scale q . k - logsumexp) and
// delta = dout . out:
//   dv_j += p_j dout,  ds_j = p_j (dout . v_j - delta),
//   dq = scale sum_j ds_j k_j,  dk_j += scale ds_j q
#pragma once

#include <mor/backends/cuda/attention_tiles.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>
#include <cstddef>

namespace mor {

namespace cuda::detail {

/// What the kernels are called with, and the work of one team in each.
template <class B>
struct AttentionGradient {
    using T = typename B::Element;

    AttentionShape shape;
    ConstMatrixView<B> q;
    ConstMatrixView<B> k;
    ConstMatrixView<B> v;
    KeyRanges<B> ranges;
    ConstMatrixView<B> logsumexp;
    ConstMatrixView<B> dout;
    MatrixView<B> dq;
    MatrixView<B> dk;
    MatrixView<B> dv;
    ConstMatrixView<B> delta;     // [rows, heads]
    ConstIndexView<B> first_row;  // [key rows]: query rows [first_row, last_row) see a key
    ConstIndexView<B> last_row;
    TileSizes sizes;
    T scale;

    [[nodiscard]] std::size_t shared_bytes() const {
        const Index dim = shape.head_dim;
        const Index numbers =
            2 * (sizes.queries + sizes.keys) * (dim + 1) + 2 * sizes.queries * (sizes.keys + 1);
        return static_cast<std::size_t>(numbers) * sizeof(T);
    }

    /// dq of the rows [first, last) and one head.
    template <class Team>
    MOR_HOST_DEVICE void run_queries(Team& team, Index first, Index last, Index head) const {
        const View<const Index, 1> begin = in_kernel(ranges.begin);
        const View<const Index, 1> end = in_kernel(ranges.end);
        const auto dim = static_cast<int>(shape.head_dim);
        const Index kv_column = head / (shape.heads / shape.kv_heads) * shape.head_dim;
        const Tiles tiles = make_tiles(team);
        while (first < last) {
            const QueryRun run = query_run(begin, end, first, last);
            const auto count = static_cast<int>(run.last - first);
            const Tile<T> gradient{in_kernel(dq).row(first).data() + head * dim,
                                   static_cast<int>(dq.columns())};
            team.sync();  // with the rows before
            load_queries(team, first, count, head, tiles);
            for (Index e = team.rank(); e < count * dim; e += team.size()) {
                gradient(static_cast<int>(e / dim), static_cast<int>(e % dim)) = T{0};
            }
            for (Index key = begin[first]; key < run.key_end; key += sizes.keys) {
                const int num_keys = run.key_end - key < sizes.keys
                                         ? static_cast<int>(run.key_end - key)
                                         : sizes.keys;
                team.sync();
                load_keys(team, key, num_keys, kv_column, tiles);
                team.sync();
                make_weights(team, first, count, key, num_keys, head, tiles);
                add_weighted_rows<Weights::by_row>(team, tiles.dscores, count, num_keys, tiles.keys,
                                                   dim, scale, static_cast<const T*>(nullptr),
                                                   gradient);
            }
            first = run.last;
        }
    }

    /// dk and dv of the keys [key, key + num_keys) and one of their heads.
    template <class Team>
    MOR_HOST_DEVICE void run_keys(Team& team, Index key, int num_keys, Index kv_head) const {
        const auto dim = static_cast<int>(shape.head_dim);
        const Index group = shape.heads / shape.kv_heads;
        const Index kv_column = kv_head * shape.head_dim;
        const Tile<T> key_gradient{in_kernel(dk).row(key).data() + kv_column,
                                   static_cast<int>(dk.columns())};
        const Tile<T> value_gradient{in_kernel(dv).row(key).data() + kv_column,
                                     static_cast<int>(dv.columns())};
        const Tiles tiles = make_tiles(team);
        Index first = q.rows();
        Index last = 0;
        for (Index j = key; j < key + num_keys; ++j) {
            first = in_kernel(first_row)[j] < first ? in_kernel(first_row)[j] : first;
            last = in_kernel(last_row)[j] > last ? in_kernel(last_row)[j] : last;
        }
        team.sync();  // with the keys before
        load_keys(team, key, num_keys, kv_column, tiles);
        for (; first < last; first += sizes.queries) {
            const int count =
                last - first < sizes.queries ? static_cast<int>(last - first) : sizes.queries;
            for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
                team.sync();
                load_queries(team, first, count, head, tiles);
                team.sync();
                make_weights(team, first, count, key, num_keys, head, tiles);
                add_weighted_rows<Weights::by_column>(
                    team, tiles.weights, num_keys, count, tiles.douts, dim, T{1},
                    static_cast<const T*>(nullptr), value_gradient);
                add_weighted_rows<Weights::by_column>(team, tiles.dscores, num_keys, count,
                                                      tiles.queries, dim, scale,
                                                      static_cast<const T*>(nullptr), key_gradient);
            }
        }
    }

private:
    struct Tiles {
        Tile<T> queries;
        Tile<T> douts;
        Tile<T> keys;
        Tile<T> values;
        Tile<T> weights;  // p
        Tile<T> dscores;  // ds
    };

    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE Tiles make_tiles(Team& team) const {
        const auto dim = static_cast<int>(shape.head_dim);
        TileMaker<T> memory{team.template shared<T>()};
        return {memory.tile(sizes.queries, dim),        memory.tile(sizes.queries, dim),
                memory.tile(sizes.keys, dim),           memory.tile(sizes.keys, dim),
                memory.tile(sizes.queries, sizes.keys), memory.tile(sizes.queries, sizes.keys)};
    }

    template <class Team>
    MOR_HOST_DEVICE void load_queries(Team& team, Index first, int count, Index head,
                                      const Tiles& tiles) const {
        const auto dim = static_cast<int>(shape.head_dim);
        load_rows(team, in_kernel(q), first, count, head * dim, dim, tiles.queries);
        load_rows(team, in_kernel(dout), first, count, head * dim, dim, tiles.douts);
    }

    template <class Team>
    MOR_HOST_DEVICE void load_keys(Team& team, Index first, int count, Index column,
                                   const Tiles& tiles) const {
        const auto dim = static_cast<int>(shape.head_dim);
        load_rows(team, in_kernel(k), first, count, column, dim, tiles.keys);
        load_rows(team, in_kernel(v), first, count, column, dim, tiles.values);
    }

    /// p and ds of the queries and keys that are loaded, 0 for keys that a query does not see.
    template <class Team>
    MOR_HOST_DEVICE void make_weights(Team& team, Index first, int count, Index key, int num_keys,
                                      Index head, const Tiles& tiles) const {
        const auto dim = static_cast<int>(shape.head_dim);
        multiply_rows(team, tiles.queries, count, tiles.keys, num_keys, dim, tiles.weights);
        multiply_rows(team, tiles.douts, count, tiles.values, num_keys, dim, tiles.dscores);
        team.sync();
        const auto threads = static_cast<int>(team.size());
        for (int e = static_cast<int>(team.rank()); e < count * num_keys; e += threads) {
            const int i = e / num_keys;
            const int j = e % num_keys;
            const bool visible = in_kernel(ranges.begin)[first + i] <= key + j &&
                                 key + j < in_kernel(ranges.end)[first + i];
            const T log_sum = in_kernel(logsumexp)(first + i, head);
            const T p = visible ? std::exp(scale * tiles.weights(i, j) - log_sum) : T{0};
            const T mean = in_kernel(delta)(first + i, head);
            tiles.weights(i, j) = p;
            tiles.dscores(i, j) = p * (tiles.dscores(i, j) - mean);
        }
        team.sync();
    }
};

/// delta[i, h] = dout[i, h] . out[i, h], a thread each: added in the order of multiply_rows, so
/// that of a single key, where out is its value, ds is 0 to the bit.
template <class B>
void multiply_heads(Context<B>& context, const AttentionShape& shape, ConstMatrixView<B> dout,
                    ConstMatrixView<B> out, MatrixView<B> delta) {
    using T = typename B::Element;
    const Index heads = shape.heads;
    const Index dim = shape.head_dim;
    context.backend().system().for_each(delta.size(), [=] MOR_HOST_DEVICE(Index i) {
        const Index row = i / heads;
        const Index first = i % heads * dim;
        T sum{0};
        for (Index c = first; c < first + dim; ++c) {
            sum += in_kernel(dout)(row, c) * in_kernel(out)(row, c);
        }
        in_kernel(delta.flat())[i] = sum;
    });
}

/// The query rows [first, last) that see a key: from the one whose range is the first to reach it,
/// to the last of its sequence, because ends grow. Where none does, all rows are before `first`.
template <class B>
void find_queries(Context<B>& context, const KeyRanges<B>& ranges, IndexView<B> first,
                  IndexView<B> last) {
    const auto& system = context.backend().system();
    const ConstIndexView<B> begins = ranges.begin;
    const ConstIndexView<B> ends = ranges.end;
    system.for_each(first.size(), [=] MOR_HOST_DEVICE(Index j) {
        in_kernel(first)[j] = begins.size();
        in_kernel(last)[j] = 0;
    });
    system.for_each_team(
        begins.size(), [=] MOR_HOST_DEVICE(typename B::System::Team & team, Index i) {
            const View<const Index, 1> begin = in_kernel(begins);
            const View<const Index, 1> end = in_kernel(ends);
            const bool is_first = i == 0 || begin[i - 1] != begin[i];
            const bool is_last = i + 1 == begin.size() || begin[i + 1] != begin[i];
            const Index reached = is_first ? begin[i] : end[i - 1];
            for (Index j = reached + team.rank(); j < end[i]; j += team.size()) {
                in_kernel(first)[j] = i;
            }
            for (Index j = begin[i] + team.rank(); is_last && j < end[i]; j += team.size()) {
                in_kernel(last)[j] = i + 1;
            }
        });
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::AttentionBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const AttentionShape& shape, ConstMatrixView<B> q,
                    ConstMatrixView<B> k, ConstMatrixView<B> v, const KeyRanges<B>& ranges,
                    ConstMatrixView<B> out, ConstMatrixView<B> logsumexp, ConstMatrixView<B> dout,
                    MatrixView<B> dq, MatrixView<B> dk, MatrixView<B> dv) {
        constexpr Index key_bytes = 8'448;
        const auto& system = context.backend().system();
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const MatrixView<B> delta = context.matrix(q.rows(), shape.heads);
        const IndexView<B> first_row = context.indices(k.rows());
        const IndexView<B> last_row = context.indices(k.rows());
        cuda::detail::multiply_heads<B>(context, shape, dout, out, delta);
        cuda::detail::find_queries(context, ranges, first_row, last_row);

        const auto sizes = cuda::detail::tile_sizes<T>(shape.head_dim, key_bytes);
        const T scale = T{1} / std::sqrt(static_cast<T>(shape.head_dim));
        const cuda::detail::AttentionGradient<B> gradient{
            shape, q,  k,     v,         ranges,   logsumexp, dout, dq,
            dk,    dv, delta, first_row, last_row, sizes,     scale};
        const Index rows = q.rows();
        const Index heads = shape.heads;
        const Index queries = sizes.queries;
        system.for_each_team((rows + queries - 1) / queries * heads, gradient.shared_bytes(),
                             [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                                 const Index first = i / heads * queries;
                                 const Index end = first + queries;
                                 gradient.run_queries(team, first, end < rows ? end : rows,
                                                      i % heads);
                             });
        const Index key_rows = k.rows();
        const Index kv_heads = shape.kv_heads;
        const Index keys = sizes.keys;
        system.for_each_team((key_rows + keys - 1) / keys * kv_heads, gradient.shared_bytes(),
                             [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                                 const Index first = i / kv_heads * keys;
                                 const Index left = key_rows - first;
                                 gradient.run_keys(team, first,
                                                   static_cast<int>(left < keys ? left : keys),
                                                   i % kv_heads);
                             });
    }
};

}  // namespace mor
