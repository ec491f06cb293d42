// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cuda backend, a team a query row and head: for paged keys, and where there are
// too few rows for tiles, as in decoding.
#pragma once

#include <mor/backends/cuda/attention_tiles.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/ops/attention.hpp>

#include <cmath>
#include <cstddef>
#include <limits>

namespace mor::cuda::detail {

/// What the kernel is called with, and the work of one team. The softmax is online, over tiles of
/// keys. Scores: a thread a key. Sums of values: a thread a column and one of several parts of the
/// keys. Every order depends on the size of a team alone.
template <class B>
struct AttentionOfRows {
    using T = typename B::Element;
    static constexpr int tile_keys = 256;
    static constexpr int most_parts = 8;

    AttentionShape shape;
    ConstMatrixView<B> q;
    ConstMatrixView<B> k;
    ConstMatrixView<B> v;
    KeyRanges<B> ranges;
    MatrixView<B> out;
    MatrixView<B> logsumexp;
    T scale;

    [[nodiscard]] std::size_t shared_bytes() const {
        const Index numbers = shape.head_dim * (1 + most_parts) + tile_keys;
        return static_cast<std::size_t>(numbers) * sizeof(T);
    }

    template <class Team>
    MOR_HOST_DEVICE void run(Team& team, Index row, Index head) const {
        const auto dim = static_cast<int>(shape.head_dim);
        const auto threads = static_cast<int>(team.size());
        const auto rank = static_cast<int>(team.rank());
        const Index kv_column = head / (shape.heads / shape.kv_heads) * shape.head_dim;
        const int parts = threads / dim < 1            ? 1
                          : threads / dim > most_parts ? most_parts
                                                       : threads / dim;
        T* const query = team.template shared<T>();
        T* const weights = query + dim;
        T* const sums = weights + tile_keys;  // [parts, dim]

        team.sync();  // with the row before
        for (int c = rank; c < dim; c += threads) {
            query[c] = scale * in_kernel(q)(row, head * dim + c);
        }
        for (int e = rank; e < parts * dim; e += threads) {
            sums[e] = T{0};
        }
        T largest = -std::numeric_limits<T>::infinity();
        T sum{0};
        const Index end = in_kernel(ranges.end)[row];
        for (Index key = in_kernel(ranges.begin)[row]; key < end; key += tile_keys) {
            const int num_keys = end - key < tile_keys ? static_cast<int>(end - key) : tile_keys;
            team.sync();
            T tile_largest = multiply_keys(team, query, key, num_keys, kv_column, weights);
            tile_largest = team.max(tile_largest);
            const T new_largest = tile_largest > largest ? tile_largest : largest;
            const T decay = std::exp(largest - new_largest);
            T exponentials{0};
            for (int j = rank; j < num_keys; j += threads) {
                weights[j] = std::exp(weights[j] - new_largest);
                exponentials += weights[j];
            }
            sum = decay * sum + team.sum(exponentials);
            largest = new_largest;
            team.sync();
            add_values(team, weights, key, num_keys, kv_column, parts, decay, sums);
        }
        team.sync();
        for (int c = rank; c < dim; c += threads) {
            T total{0};
            for (int part = 0; part < parts; ++part) {
                total += sums[part * dim + c];
            }
            in_kernel(out)(row, head * dim + c) = total / sum;
        }
        if (rank == 0) {
            in_kernel(logsumexp)(row, head) = largest + std::log(sum);
        }
    }

private:
    [[nodiscard]] MOR_HOST_DEVICE Index key_row(Index j) const {
        if (ranges.block_size == 0) {
            return j;
        }
        const Index block = in_kernel(ranges.blocks)[j / ranges.block_size];
        return block * ranges.block_size + j % ranges.block_size;
    }

    /// The scores of keys [key, key + num_keys); returns the largest of this thread.
    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE T multiply_keys(Team& team, const T* query, Index key,
                                                  int num_keys, Index column, T* scores) const {
        T largest = -std::numeric_limits<T>::infinity();
        for (int j = static_cast<int>(team.rank()); j < num_keys;
             j += static_cast<int>(team.size())) {
            const T* const numbers = in_kernel(k).row(key_row(key + j)).data() + column;
            T score{0};
            for (Index c = 0; c < shape.head_dim; ++c) {
                score += query[c] * numbers[c];
            }
            scores[j] = score;
            largest = score > largest ? score : largest;
        }
        return largest;
    }

    /// sums[part] = decay * sums[part] + the weighted values of every `parts`-th key.
    template <class Team>
    MOR_HOST_DEVICE void add_values(Team& team, const T* weights, Index key, int num_keys,
                                    Index column, int parts, T decay, T* sums) const {
        const auto dim = static_cast<int>(shape.head_dim);
        for (int e = static_cast<int>(team.rank()); e < parts * dim;
             e += static_cast<int>(team.size())) {
            const Index c = column + e % dim;
            T sum{0};
            for (int j = e / dim; j < num_keys; j += parts) {
                sum += weights[j] * in_kernel(v)(key_row(key + j), c);
            }
            sums[e] = decay * sums[e] + sum;
        }
    }
};

}  // namespace mor::cuda::detail
