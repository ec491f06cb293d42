// SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention, in one order and without atomics: teams with a tile of queries compute
// dq, then teams with a tile of keys compute dk and dv. With p = exp(scale q . k - logsumexp) and
// delta = dout . out:
//   dv_j += p_j dout,  ds_j = p_j (dout . v_j - delta),
//   dq = scale sum_j ds_j k_j,  dk_j += scale ds_j q
#pragma once

#include <mor/backends/cuda/attention_inputs.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>
#include <cstddef>

namespace mor {

namespace cuda::detail {

/// What the kernels are called with, and the work of one team in each.
template <class B, class Tiles, class X, class DOut, class DQ>
struct AttentionGradient {
    using T = typename B::Element;
    using Factor = typename Tiles::Factor;

    AttentionInputs<B, X> inputs;
    ConstMatrixView<B> logsumexp;
    View<const DOut, 2, typename B::Space> dout;
    View<DQ, 2, typename B::Space> dq;
    MatrixView<B> dk;
    MatrixView<B> dv;
    ConstMatrixView<B> delta;     // [rows, heads]
    ConstIndexView<B> first_row;  // [key rows]: query rows [first_row, last_row) see a key
    ConstIndexView<B> last_row;
    TileSizes sizes;

    [[nodiscard]] std::size_t query_bytes() const { return bytes<QuerySums>(); }
    [[nodiscard]] std::size_t key_bytes() const { return bytes<KeySums>(); }

    /// dq of the rows [first, last) and one head.
    template <class Team>
    MOR_HOST_DEVICE void run_queries(Team& team, Index first, Index last, Index head) const {
        const View<const Index, 1> begin = in_kernel(inputs.ranges.begin);
        const View<const Index, 1> end = in_kernel(inputs.ranges.end);
        const int dim = inputs.dim();
        TileMaker memory{team.template shared<std::byte>()};
        const Shared shared{memory, sizes, dim};
        QuerySums sums{memory, sizes, dim};
        while (first < last) {
            const QueryRun run = query_run(begin, end, first, last);
            const auto count = static_cast<int>(run.last - first);
            const Gradient<DQ, T> gradient{rows_of(dq, first, head * dim), inputs.scale};
            team.sync();  // with the rows before
            load_queries(team, first, count, head, shared);
            sums.queries.template begin<Write::overwrite>(team, count, gradient);
            for (Index key = begin[first]; key < run.key_end; key += sizes.keys) {
                const int num_keys = run.key_end - key < sizes.keys
                                         ? static_cast<int>(run.key_end - key)
                                         : sizes.keys;
                team.sync();
                load_keys(team, key, num_keys, inputs.kv_column(head), shared);
                team.sync();
                make_weights(team, count, key, num_keys, shared);
                sums.queries.template add<Reading::as_stored>(team, shared.dscores, count, num_keys,
                                                              shared.keys, gradient);
            }
            sums.queries.template finish<Write::overwrite>(team, count, gradient);
            first = run.last;
        }
    }

    /// dk and dv of the keys [key, key + num_keys) and one of their heads.
    template <class Team>
    MOR_HOST_DEVICE void run_keys(Team& team, Index key, int num_keys, Index kv_head) const {
        const int dim = inputs.dim();
        const auto group = static_cast<int>(inputs.shape.heads / inputs.shape.kv_heads);
        const Index kv_column = kv_head * dim;
        // Made where they are used, not kept: registers are scarce here.
        const auto key_gradient = [&] {
            return Gradient<T>{rows_of(dk, key, kv_column), inputs.scale};
        };
        const auto value_gradient = [&] { return Gradient<T>{rows_of(dv, key, kv_column), T{1}}; };
        TileMaker memory{team.template shared<std::byte>()};
        const Shared shared{memory, sizes, dim};
        KeySums sums{memory, sizes, dim};
        Index first = inputs.q.rows();
        Index last = 0;
        for (Index j = key; j < key + num_keys; ++j) {
            first = in_kernel(first_row)[j] < first ? in_kernel(first_row)[j] : first;
            last = in_kernel(last_row)[j] > last ? in_kernel(last_row)[j] : last;
        }
        team.sync();  // with the keys before
        load_keys(team, key, num_keys, kv_column, shared);
        sums.keys.template begin<Write::accumulate>(team, num_keys, key_gradient());
        sums.values.template begin<Write::accumulate>(team, num_keys, value_gradient());
        for (; first < last; first += sizes.queries) {
            const int count =
                last - first < sizes.queries ? static_cast<int>(last - first) : sizes.queries;
            for (int member = 0; member < group; ++member) {
                team.sync();
                load_queries(team, first, count, kv_head * group + member, shared);
                team.sync();
                make_weights(team, count, key, num_keys, shared);
                sums.values.template add<Reading::transposed>(team, shared.weights, num_keys, count,
                                                              shared.douts, value_gradient());
                sums.keys.template add<Reading::transposed>(team, shared.dscores, num_keys, count,
                                                            shared.queries, key_gradient());
            }
        }
        sums.keys.template finish<Write::accumulate>(team, num_keys, key_gradient());
        sums.values.template finish<Write::accumulate>(team, num_keys, value_gradient());
    }

private:
    struct Shared {
        Tile<Factor> queries;
        Tile<Factor> douts;
        Tile<Factor> keys;
        Tile<Factor> values;
        Tile<T> scores;           // q k^T
        Tile<T> weight_gradient;  // dout v^T
        Tile<Factor> weights;     // p
        Tile<Factor> dscores;     // ds
        // [queries]: the keys that a query sees, and what its scores are compared with.
        Index* begin;
        Index* end;
        T* logsumexp;
        T* delta;

        MOR_HOST_DEVICE Shared(TileMaker& memory, const TileSizes& sizes, int dim)
            : queries{Tiles::factors(memory, sizes.queries, dim)},
              douts{Tiles::factors(memory, sizes.queries, dim)},
              keys{Tiles::factors(memory, sizes.keys, dim)},
              values{Tiles::factors(memory, sizes.keys, dim)},
              scores{Tiles::scores(memory, sizes)},
              weight_gradient{Tiles::scores(memory, sizes)},
              weights{Tiles::weights(memory, sizes, scores)},
              dscores{Tiles::weights(memory, sizes, weight_gradient)},
              begin{memory.numbers<Index>(sizes.queries)},
              end{memory.numbers<Index>(sizes.queries)},
              logsumexp{memory.numbers<T>(sizes.queries)},
              delta{memory.numbers<T>(sizes.queries)} {}
    };

    struct QuerySums {
        typename Tiles::template GradientSums<DQ> queries;

        MOR_HOST_DEVICE QuerySums(TileMaker& memory, const TileSizes& sizes, int dim)
            : queries{memory, sizes.queries, dim} {}
    };
    struct KeySums {
        typename Tiles::template GradientSums<T> keys;
        typename Tiles::template GradientSums<T> values;

        MOR_HOST_DEVICE KeySums(TileMaker& memory, const TileSizes& sizes, int dim)
            : keys{memory, sizes.keys, dim}, values{memory, sizes.keys, dim} {}
    };

    template <class Sums>
    [[nodiscard]] std::size_t bytes() const {
        TileMaker memory{nullptr};
        static_cast<void>(Shared{memory, sizes, inputs.dim()});
        static_cast<void>(Sums{memory, sizes, inputs.dim()});
        return memory.used_bytes();
    }

    template <class Y>
    [[nodiscard]] static MOR_HOST_DEVICE Tile<Y> rows_of(View<Y, 2, typename B::Space> matrix,
                                                         Index first, Index column) {
        return {in_kernel(matrix).row(first).data() + column, static_cast<int>(matrix.columns())};
    }

    template <class Team>
    MOR_HOST_DEVICE void load_queries(Team& team, Index first, int count, Index head,
                                      const Shared& shared) const {
        const int dim = inputs.dim();
        Tiles::load(team, in_kernel(inputs.q), first, count, head * dim, dim, shared.queries);
        Tiles::load(team, in_kernel(dout), first, count, head * dim, dim, shared.douts);
        for_each_element(team, count, 1, [&](int i, int /*j*/) {
            shared.begin[i] = in_kernel(inputs.ranges.begin)[first + i];
            shared.end[i] = in_kernel(inputs.ranges.end)[first + i];
            shared.logsumexp[i] = in_kernel(logsumexp)(first + i, head);
            shared.delta[i] = in_kernel(delta)(first + i, head);
        });
    }

    template <class Team>
    MOR_HOST_DEVICE void load_keys(Team& team, Index first, int count, Index column,
                                   const Shared& shared) const {
        Tiles::load(team, in_kernel(inputs.k), first, count, column, inputs.dim(), shared.keys);
        Tiles::load(team, in_kernel(inputs.v), first, count, column, inputs.dim(), shared.values);
    }

    /// p and ds of the queries and keys that are loaded, 0 for keys that a query does not see.
    template <class Team>
    MOR_HOST_DEVICE void make_weights(Team& team, int count, Index key, int num_keys,
                                      const Shared& shared) const {
        const int dim = inputs.dim();
        Tiles::multiply(team, shared.queries, count, shared.keys, num_keys, dim, shared.scores);
        Tiles::multiply(team, shared.douts, count, shared.values, num_keys, dim,
                        shared.weight_gradient);
        team.sync();
        for_each_element(team, Tiles::padded(count), Tiles::padded(num_keys), [&](int i, int j) {
            const bool visible =
                i < count && j < num_keys && shared.begin[i] <= key + j && key + j < shared.end[i];
            T p{0};
            T ds{0};
            if (visible) {
                p = std::exp(inputs.scale * shared.scores(i, j) - shared.logsumexp[i]);
                ds = p * (shared.weight_gradient(i, j) - shared.delta[i]);
            }
            shared.weights(i, j) = Tiles::factor(p);
            shared.dscores(i, j) = Tiles::factor(ds);
        });
        team.sync();
    }
};

/// delta[i, h] = dout[i, h] . out[i, h], a thread each: added in the order of ExactTiles::multiply,
/// so that there, where out is the value of a single key to the bit, ds is 0.
template <class B, class DOut, class Out>
void multiply_heads(Context<B>& context, const AttentionShape& shape,
                    View<const DOut, 2, typename B::Space> dout,
                    View<const Out, 2, typename B::Space> out, MatrixView<B> delta) {
    using T = typename B::Element;
    const Index heads = shape.heads;
    const Index dim = shape.head_dim;
    context.backend().system().for_each(delta.size(), [=] MOR_KERNEL(Index i) {
        const Index row = i / heads;
        const Index first = i % heads * dim;
        T sum{0};
        for (Index c = first; c < first + dim; ++c) {
            sum += widened(in_kernel(dout)(row, c)) * widened(in_kernel(out)(row, c));
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
    system.for_each(first.size(), [=] MOR_KERNEL(Index j) {
        in_kernel(first)[j] = begins.size();
        in_kernel(last)[j] = 0;
    });
    system.for_each_team(begins.size(), [=] MOR_KERNEL(typename B::System::Team & team, Index i) {
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

template <class B, class Tiles, class X, class DOut, class DQ>
void attend_tiles_backward(Context<B>& context, AttentionGradient<B, Tiles, X, DOut, DQ> gradient) {
    using Team = typename B::System::Team;
    const auto& system = context.backend().system();
    const AttentionInputs<B, X> inputs = gradient.inputs;
    const Index rows = inputs.q.rows();
    const Index heads = inputs.shape.heads;
    gradient.sizes = Tiles::query_gradient_sizes(inputs.dim());
    const Index queries = gradient.sizes.queries;
    system.for_each_team((rows + queries - 1) / queries * heads, gradient.query_bytes(),
                         [=] MOR_KERNEL(Team & team, Index i) {
                             const Index first = i / heads * queries;
                             const Index end = first + queries;
                             gradient.run_queries(team, first, end < rows ? end : rows, i % heads);
                         });
    gradient.sizes = Tiles::key_gradient_sizes(inputs.dim());
    const Index key_rows = inputs.k.rows();
    const Index kv_heads = inputs.shape.kv_heads;
    const Index keys = gradient.sizes.keys;
    system.for_each_team((key_rows + keys - 1) / keys * kv_heads, gradient.key_bytes(),
                         [=] MOR_KERNEL(Team & team, Index i) {
                             const Index first = i / kv_heads * keys;
                             const Index left = key_rows - first;
                             gradient.run_keys(team, first,
                                               static_cast<int>(left < keys ? left : keys),
                                               i % kv_heads);
                         });
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::AttentionBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X, class Out, class DOut, class DQ>
    static void run(Context<B>& context, const AttentionShape& shape,
                    View<const X, 2, typename B::Space> q, View<const X, 2, typename B::Space> k,
                    View<const X, 2, typename B::Space> v, const KeyRanges<B>& ranges,
                    View<const Out, 2, typename B::Space> out, ConstMatrixView<B> logsumexp,
                    View<const DOut, 2, typename B::Space> dout, View<DQ, 2, typename B::Space> dq,
                    MatrixView<B> dk, MatrixView<B> dv) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const MatrixView<B> delta = context.matrix(q.rows(), shape.heads);
        const IndexView<B> first_row = context.indices(k.rows());
        const IndexView<B> last_row = context.indices(k.rows());
        cuda::detail::multiply_heads(context, shape, dout, out, delta);
        cuda::detail::find_queries(context, ranges, first_row, last_row);
        const cuda::detail::AttentionInputs<B, X> inputs{shape, q, k, v, ranges};
        cuda::detail::with_tiles<B>(inputs, [&](auto tiles) {
            using Gradient = cuda::detail::AttentionGradient<B, decltype(tiles), X, DOut, DQ>;
            cuda::detail::attend_tiles_backward(
                context,
                Gradient{inputs, logsumexp, dout, dq, dk, dv, delta, first_row, last_row, {}});
        });
    }
};

}  // namespace mor
