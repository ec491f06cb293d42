// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cuda backend for paged keys, and where there are too few query rows for tiles,
// as in decoding: the keys of a row are cut into parts, and the sums of the parts are added in
// order, by the team that computed them or by a kernel that follows.
#pragma once

#include <mor/backends/cuda/attention_inputs.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

namespace mor::cuda::detail {

/// The softmax of some keys of a row: their largest score, and the sum of their exponentials,
/// exp(score - largest).
template <class T>
struct Softmax {
    T largest = -std::numeric_limits<T>::infinity();
    T sum{0};

    /// What the sums before and those of a part are multiplied by, before they are added.
    struct Factors {
        T before;
        T part;

        // Spelled out, so that every kernel rounds alike.
        [[nodiscard]] MOR_HOST_DEVICE T add(T sum_before, T sum_of_part) const {
            return std::fma(before, sum_before, part * sum_of_part);
        }
    };

    /// Adds the keys of a part.
    MOR_HOST_DEVICE Factors add(const Softmax& part) {
        const T larger = part.largest > largest ? part.largest : largest;
        const Factors factors{std::exp(largest - larger), std::exp(part.largest - larger)};
        sum = factors.add(sum, part.sum);
        largest = larger;
        return factors;
    }
};

/// What the kernels are called with, and the work of a team. Parts are counted from the first key
/// of a row. Scores: a thread a key. Sums of values: a thread a column and one of several slices of
/// the keys. Every order depends on the range of the row and the size of a team alone.
template <class B, class X, class Y>
struct AttentionOfRows {
    using T = typename B::Element;
    static constexpr int part_keys = 256;
    static constexpr int most_slices = 8;

    AttentionInputs<B, X> inputs;
    View<Y, 2, typename B::Space> out;
    MatrixView<B> logsumexp;

    [[nodiscard]] std::size_t shared_bytes() const {
        const Index numbers = inputs.shape.head_dim * (2 + most_slices) + part_keys;
        return static_cast<std::size_t>(numbers) * sizeof(T);
    }

    /// All parts of a row and head.
    template <class Team>
    MOR_HOST_DEVICE void run(Team& team, Index row, Index head) const {
        const Shared shared = prepare(team, row, head);
        const int dim = inputs.dim();
        const auto threads = static_cast<int>(team.size());
        const auto rank = static_cast<int>(team.rank());
        for (int c = rank; c < dim; c += threads) {
            shared.totals[c] = T{0};
        }
        Softmax<T> softmax;
        for (Index part = 0; part < num_parts(row); ++part) {
            const auto factors = softmax.add(run_part(team, row, head, part, shared));
            for (int c = rank; c < dim; c += threads) {
                shared.totals[c] = factors.add(shared.totals[c], shared.sum(c, dim));
            }
        }
        for (int c = rank; c < dim; c += threads) {
            in_kernel(out)(row, head * dim + c) = rounded_to<Y>(shared.totals[c] / softmax.sum);
        }
        if (rank == 0) {
            in_kernel(logsumexp)(row, head) = softmax.largest + std::log(softmax.sum);
        }
    }

    /// Every `stride`-th part of a row and head, from `first` on, into the row of `partials`
    /// [rows * heads * parts, 2 + head_dim] that is its own: the softmax, then the sums of values.
    template <class Team>
    MOR_HOST_DEVICE void run_parts(Team& team, Index row, Index head, Index first, Index stride,
                                   MatrixView<B> partials, Index most_parts) const {
        if (first >= num_parts(row)) {
            return;
        }
        const Shared shared = prepare(team, row, head);
        const int dim = inputs.dim();
        for (Index part = first; part < num_parts(row); part += stride) {
            const Softmax<T> softmax = run_part(team, row, head, part, shared);
            const View<T, 1> partial =
                in_kernel(partials).row((row * inputs.shape.heads + head) * most_parts + part);
            for (Index c = team.rank(); c < dim; c += team.size()) {
                partial[2 + c] = shared.sum(static_cast<int>(c), dim);
            }
            if (team.rank() == 0) {
                partial[0] = softmax.largest;
                partial[1] = softmax.sum;
            }
        }
    }

    /// One column of a head from the partial sums of all parts.
    MOR_HOST_DEVICE void combine(Index row, Index head, Index column, ConstMatrixView<B> partials,
                                 Index most_parts) const {
        const Index first = (row * inputs.shape.heads + head) * most_parts;
        Softmax<T> softmax;
        T total{0};
        for (Index part = 0; part < num_parts(row); ++part) {
            const View<const T, 1> partial = in_kernel(partials).row(first + part);
            const auto factors = softmax.add({partial[0], partial[1]});
            total = factors.add(total, partial[2 + column]);
        }
        in_kernel(out)(row, head * inputs.dim() + column) = rounded_to<Y>(total / softmax.sum);
        if (column == 0) {
            in_kernel(logsumexp)(row, head) = softmax.largest + std::log(softmax.sum);
        }
    }

private:
    struct Shared {
        T* query;
        T* weights;  // [part_keys]
        T* sums;     // [slices, dim], of a part
        T* totals;   // [dim], of all parts
        int slices;

        /// The sum of a part's values in one column.
        [[nodiscard]] MOR_HOST_DEVICE T sum(int column, int dim) const {
            T sum{0};
            for (int slice = 0; slice < slices; ++slice) {
                sum += sums[slice * dim + column];
            }
            return sum;
        }
    };

    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE Shared prepare(Team& team, Index row, Index head) const {
        const int dim = inputs.dim();
        const auto threads = static_cast<int>(team.size());
        const int slices = threads / dim < 1             ? 1
                           : threads / dim > most_slices ? most_slices
                                                         : threads / dim;
        T* const query = team.template shared<T>();
        T* const weights = query + dim;
        T* const totals = weights + part_keys;
        T* const sums = totals + dim;
        team.sync();  // with the row before
        for (int c = static_cast<int>(team.rank()); c < dim; c += threads) {
            query[c] = inputs.scale * widened(in_kernel(inputs.q)(row, head * dim + c));
        }
        return {query, weights, sums, totals, slices};
    }

    [[nodiscard]] MOR_HOST_DEVICE Index num_parts(Index row) const {
        const Index keys = in_kernel(inputs.ranges.end)[row] - in_kernel(inputs.ranges.begin)[row];
        return (keys + part_keys - 1) / part_keys;
    }

    /// The softmax of a part; its sums of values are left in `shared`.
    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE Softmax<T> run_part(Team& team, Index row, Index head, Index part,
                                                      const Shared& shared) const {
        const Index key = in_kernel(inputs.ranges.begin)[row] + part * part_keys;
        const Index left = in_kernel(inputs.ranges.end)[row] - key;
        const int num_keys = left < part_keys ? static_cast<int>(left) : part_keys;
        const Index kv_column = inputs.kv_column(head);
        team.sync();  // the query is there, and nobody reads the part before
        Softmax<T> softmax;
        softmax.largest = team.max(multiply_keys(team, key, num_keys, kv_column, shared));
        T sum{0};
        for (int j = static_cast<int>(team.rank()); j < num_keys;
             j += static_cast<int>(team.size())) {
            shared.weights[j] = std::exp(shared.weights[j] - softmax.largest);
            sum += shared.weights[j];
        }
        softmax.sum = team.sum(sum);
        team.sync();
        add_values(team, key, num_keys, kv_column, shared);
        team.sync();
        return softmax;
    }

    [[nodiscard]] MOR_HOST_DEVICE Index key_row(Index j) const {
        const KeyRanges<B>& ranges = inputs.ranges;
        if (ranges.block_size == 0) {
            return j;
        }
        const Index block = in_kernel(ranges.blocks)[j / ranges.block_size];
        return block * ranges.block_size + j % ranges.block_size;
    }

    /// The scores of keys [key, key + num_keys); returns the largest of this thread.
    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE T multiply_keys(Team& team, Index key, int num_keys, Index column,
                                                  const Shared& shared) const {
        const View<const X, 2> keys = in_kernel(inputs.k);
        const bool is_aligned = inputs.dim() % Packet::size == 0 &&
                                keys.columns() % Packet::size == 0 && column % Packet::size == 0 &&
                                reinterpret_cast<std::uintptr_t>(keys.data()) % sizeof(Packet) == 0;
        T largest = -std::numeric_limits<T>::infinity();
        for (int j = static_cast<int>(team.rank()); j < num_keys;
             j += static_cast<int>(team.size())) {
            const X* const numbers = keys.row(key_row(key + j)).data() + column;
            const T score = multiply_key(shared.query, numbers, is_aligned);
            shared.weights[j] = score;
            largest = score > largest ? score : largest;
        }
        return largest;
    }

    /// What a thread loads at once.
    struct Packet {
        static constexpr int size = static_cast<int>(16 / sizeof(X));
        X numbers[16 / sizeof(X)];
    };

    [[nodiscard]] MOR_HOST_DEVICE T multiply_key(const T* query, const X* key,
                                                 bool is_aligned) const {
        T score{0};
        int c = 0;
        for (; is_aligned && c < inputs.dim(); c += Packet::size) {
            Packet packet;
            std::memcpy(&packet, std::assume_aligned<sizeof(Packet)>(key + c), sizeof(Packet));
            for (int r = 0; r < Packet::size; ++r) {
                score += query[c + r] * widened(packet.numbers[r]);
            }
        }
        for (; c < inputs.dim(); ++c) {
            score += query[c] * widened(key[c]);
        }
        return score;
    }

    /// sums[slice] = the weighted values of every `slices`-th key.
    template <class Team>
    MOR_HOST_DEVICE void add_values(Team& team, Index key, int num_keys, Index column,
                                    const Shared& shared) const {
        const int dim = inputs.dim();
        for (int e = static_cast<int>(team.rank()); e < shared.slices * dim;
             e += static_cast<int>(team.size())) {
            const Index c = column + e % dim;
            T sum{0};
            for (int j = e / dim; j < num_keys; j += shared.slices) {
                sum += shared.weights[j] * widened(in_kernel(inputs.v)(key_row(key + j), c));
            }
            shared.sums[e] = sum;
        }
    }
};

/// Attention of any rows, each by itself. Few of them share their parts among several teams, as
/// many as keep a GPU busy; of how many parts a row has, the host knows a bound only.
template <class B, class X, class Y>
void attend_rows(Context<B>& context, const AttentionInputs<B, X>& inputs,
                 View<Y, 2, typename B::Space> out, MatrixView<B> logsumexp) {
    using Rows = AttentionOfRows<B, X, Y>;
    using Team = typename B::System::Team;
    constexpr Index enough_teams = 1'024;
    constexpr Index most_numbers = Index{1} << 24;  // of partial sums
    const auto& system = context.backend().system();
    const Rows forward{inputs, out, logsumexp};
    const KeyRanges<B>& ranges = inputs.ranges;
    const Index heads = inputs.shape.heads;
    const Index dim = inputs.shape.head_dim;
    const Index pairs = inputs.q.rows() * heads;
    const Index most_keys =
        ranges.is_paged() ? ranges.blocks.size() * ranges.block_size : inputs.k.rows();
    const Index parts = (most_keys + Rows::part_keys - 1) / Rows::part_keys;
    const Index teams = std::min(parts, enough_teams / std::max<Index>(pairs, 1));  // of a pair
    if (teams <= 1 || pairs * parts * (2 + dim) > most_numbers) {
        system.for_each_team(pairs, forward.shared_bytes(), [=] MOR_KERNEL(Team & team, Index i) {
            forward.run(team, i / heads, i % heads);
        });
        return;
    }
    const typename Arena<typename B::Space>::Scope scope{context.arena()};
    const MatrixView<B> partials = context.matrix(pairs * parts, 2 + dim);
    system.for_each_team(
        pairs * teams, forward.shared_bytes(), [=] MOR_KERNEL(Team & team, Index i) {
            const Index pair = i / teams;
            forward.run_parts(team, pair / heads, pair % heads, i % teams, teams, partials, parts);
        });
    system.for_each(pairs * dim, [=] MOR_KERNEL(Index i) {
        const Index pair = i / dim;
        forward.combine(pair / heads, pair % heads, i % dim, partials, parts);
    });
}

}  // namespace mor::cuda::detail
