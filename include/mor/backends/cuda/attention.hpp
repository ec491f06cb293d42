// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cuda backend: a team has a tile of query rows and a head, and goes through the
// keys tile by tile with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022). A few
// rows, and paged keys, are the matter of attention_rows.hpp.
#pragma once

#include <mor/backends/cuda/attention_inputs.hpp>
#include <mor/backends/cuda/attention_rows.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

namespace mor {

namespace cuda::detail {

/// What the kernel is called with, and the work of one team.
template <class B, class Tiles, class X, class Y>
struct AttentionForward {
    using T = typename B::Element;
    using Factor = typename Tiles::Factor;
    static constexpr int parts = Tiles::softmax_parts;

    AttentionInputs<B, X> inputs;
    View<Y, 2, typename B::Space> out;
    MatrixView<B> logsumexp;
    TileSizes sizes;

    [[nodiscard]] std::size_t shared_bytes() const {
        TileMaker memory{nullptr};
        static_cast<void>(Shared{memory, sizes, inputs.dim()});
        return memory.used_bytes();
    }

    /// The rows [first, last) and one head.
    template <class Team>
    MOR_HOST_DEVICE void run(Team& team, Index first, Index last, Index head) const {
        const View<const Index, 1> begin = in_kernel(inputs.ranges.begin);
        const View<const Index, 1> end = in_kernel(inputs.ranges.end);
        TileMaker memory{team.template shared<std::byte>()};
        Shared shared{memory, sizes, inputs.dim()};
        while (first < last) {
            const QueryRun run = query_run(begin, end, first, last);
            run_sequence(team, shared, first, static_cast<int>(run.last - first), begin[first],
                         run.key_end, head);
            first = run.last;
        }
    }

private:
    struct Shared {
        Tile<Factor> queries;
        Tile<Factor> keys_or_values;
        Tile<T> scores;
        Tile<Factor> weights;
        typename Tiles::Sums sums;
        // The softmax of a query so far, [queries, parts]: its largest score, and of every part of
        // the keys the sum of the exponentials and the largest score in this tile.
        T* largest;
        T* sum;
        T* largest_of_tile;
        T* decay;  // [queries]: by what earlier exponentials shrink for larger scores

        MOR_HOST_DEVICE Shared(TileMaker& memory, const TileSizes& sizes, int dim)
            : queries{Tiles::factors(memory, sizes.queries, dim)},
              keys_or_values{Tiles::factors(memory, sizes.keys, dim)},
              scores{Tiles::scores(memory, sizes)},
              weights{Tiles::weights(memory, sizes, scores)},
              sums{memory, sizes.queries, dim},
              largest{memory.numbers<T>(sizes.queries * parts)},
              sum{memory.numbers<T>(sizes.queries * parts)},
              largest_of_tile{memory.numbers<T>(sizes.queries * parts)},
              decay{memory.numbers<T>(sizes.queries)} {}
    };

    /// `count` rows that share their begin, and keys [key, key_end) of their ranges.
    template <class Team>
    MOR_HOST_DEVICE void run_sequence(Team& team, Shared& shared, Index first, int count, Index key,
                                      Index key_end, Index head) const {
        const int dim = inputs.dim();
        const Index kv_column = inputs.kv_column(head);
        team.sync();  // with the rows before
        Tiles::load(team, in_kernel(inputs.q), first, count, head * dim, dim, shared.queries);
        shared.sums.clear(team, count);
        for_each_element(team, Tiles::padded(count), parts, [&](int i, int part) {
            // Rows that are not there see nothing; their weights come to 0 from any number.
            shared.largest[i * parts + part] =
                i < count ? -std::numeric_limits<T>::infinity() : T{0};
            shared.sum[i * parts + part] = T{0};
        });
        for (; key < key_end; key += sizes.keys) {
            const int num_keys =
                key_end - key < sizes.keys ? static_cast<int>(key_end - key) : sizes.keys;
            team.sync();
            Tiles::load(team, in_kernel(inputs.k), key, num_keys, kv_column, dim,
                        shared.keys_or_values);
            team.sync();
            Tiles::multiply(team, shared.queries, count, shared.keys_or_values, num_keys, dim,
                            shared.scores);
            team.sync();
            Tiles::load(team, in_kernel(inputs.v), key, num_keys, kv_column, dim,
                        shared.keys_or_values);
            add_to_softmax(team, shared, first, count, key, num_keys);
            team.sync();
            shared.sums.template add<Reading::as_stored>(team, shared.weights, count, num_keys,
                                                         shared.keys_or_values, shared.decay);
        }
        team.sync();
        write(team, shared, first, count, head);
    }

    /// Scores become weights; those of keys that a row does not see are 0. A thread has every
    /// `parts`-th key of a row.
    template <class Team>
    MOR_HOST_DEVICE void add_to_softmax(Team& team, const Shared& shared, Index first, int count,
                                        Index key, int num_keys) const {
        const T scale = inputs.scale;
        const auto num_visible = [&](int i) {
            const Index visible = i < count ? in_kernel(inputs.ranges.end)[first + i] - key : 0;
            return visible < num_keys ? static_cast<int>(visible) : num_keys;
        };
        for_each_element(team, Tiles::padded(count), parts, [&](int i, int part) {
            const int visible = num_visible(i);
            T largest = -std::numeric_limits<T>::infinity();
            for (int j = part; j < visible; j += parts) {
                const T score = scale * shared.scores(i, j);
                largest = score > largest ? score : largest;
            }
            shared.largest_of_tile[i * parts + part] = largest;
        });
        if constexpr (parts > 1) {
            team.sync();
        }
        for_each_element(team, Tiles::padded(count), parts, [&](int i, int part) {
            const int visible = num_visible(i);
            const T before = shared.largest[i * parts + part];
            T largest = before;
            for (int other = 0; other < parts; ++other) {
                const T score = shared.largest_of_tile[i * parts + other];
                largest = score > largest ? score : largest;
            }
            T sum{0};
            for (int j = part; j < Tiles::padded(num_keys); j += parts) {
                const T weight =
                    j < visible ? std::exp(scale * shared.scores(i, j) - largest) : T{0};
                shared.weights(i, j) = Tiles::factor(weight);
                sum += weight;
            }
            const T decay = std::exp(before - largest);
            T& sum_of_part = shared.sum[i * parts + part];
            sum_of_part = decay * sum_of_part + sum;
            shared.largest[i * parts + part] = largest;
            if (part == 0) {
                shared.decay[i] = decay;
            }
        });
    }

    template <class Team>
    MOR_HOST_DEVICE void write(Team& team, Shared& shared, Index first, int count,
                               Index head) const {
        const int dim = inputs.dim();
        T* const sum_of_row = shared.decay;
        for_each_element(team, count, 1, [&](int i, int /*j*/) {
            T sum = shared.sum[i * parts];
            for (int part = 1; part < parts; ++part) {
                sum += shared.sum[i * parts + part];
            }
            sum_of_row[i] = sum;
            in_kernel(logsumexp)(first + i, head) = shared.largest[i * parts] + std::log(sum);
        });
        team.sync();
        shared.sums.each(team, count, [&](int i, int c, T value) {
            in_kernel(out)(first + i, head * dim + c) = rounded_to<Y>(value / sum_of_row[i]);
        });
    }
};

template <class Tiles, class B, class X, class Y>
void attend_tiles(Context<B>& context, const AttentionInputs<B, X>& inputs,
                  View<Y, 2, typename B::Space> out, MatrixView<B> logsumexp) {
    using Team = typename B::System::Team;
    const TileSizes sizes = Tiles::forward_sizes(inputs.dim());
    const AttentionForward<B, Tiles, X, Y> forward{inputs, out, logsumexp, sizes};
    const Index rows = inputs.q.rows();
    const Index heads = inputs.shape.heads;
    const Index tile = sizes.queries;
    context.backend().system().for_each_team(
        (rows + tile - 1) / tile * heads, forward.shared_bytes(),
        [=] MOR_KERNEL(Team & team, Index i) {
            const Index first = i / heads * tile;
            const Index end = first + tile;
            forward.run(team, first, end < rows ? end : rows, i % heads);
        });
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::Attention, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X, class Y>
    static void run(Context<B>& context, const AttentionShape& shape,
                    View<const X, 2, typename B::Space> q, View<const X, 2, typename B::Space> k,
                    View<const X, 2, typename B::Space> v, const KeyRanges<B>& ranges,
                    View<Y, 2, typename B::Space> out, MatrixView<B> logsumexp) {
        const cuda::detail::AttentionInputs<B, X> inputs{shape, q, k, v, ranges};
        if (ranges.is_paged() || q.rows() < cuda::detail::fewest_rows_for_tiles) {
            cuda::detail::attend_rows(context, inputs, out, logsumexp);
            return;
        }
        cuda::detail::with_tiles<B>(inputs, [&](auto tiles) {
            cuda::detail::attend_tiles<decltype(tiles)>(context, inputs, out, logsumexp);
        });
    }
};

}  // namespace mor
