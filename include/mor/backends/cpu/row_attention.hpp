// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cpu backend, one query row at a time: over paged keys, and wherever a sequence
// asks for too few rows to fill a tile. Block by block with an online softmax, so that a row's
// result does not depend on the other rows.
#pragma once

#include <mor/backends/cpu/cache_lines.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/dot_products.hpp>
#include <mor/backends/cpu/online_softmax.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace mor::cpu::detail {

inline constexpr Index largest_block = 64;  // of keys

/// What a block of keys adds to the results of the heads that share them.
template <class T>
struct BlockWeights {
    const T* weights;  // [heads, largest_block]
    const T* values;   // [keys, dim], `stride` from one to the next
    Index keys;
    Index stride;
    Index dim;
    T* out;  // [heads, dim]

    /// Heads [head, head + H), columns [column, column + P packets): out += weights * values, key
    /// after key. So many sums at once hide how long a multiply-add takes.
    template <Index H, Index P>
    void add(Index head, Index column) const {
        using namespace Eigen::internal;
        std::array<Lanes<T>, static_cast<std::size_t>(H * P)> sums;
        T* const result = out + head * dim + column;
        for (Index h = 0; h < H; ++h) {
            for (Index p = 0; p < P; ++p) {
                sums[static_cast<std::size_t>(h * P + p)].packet =
                    ploadu<Packet<T>>(result + h * dim + p * packet_size<T>);
            }
        }
        for (Index j = 0; j < keys; ++j) {
            std::array<Lanes<T>, static_cast<std::size_t>(P)> value;
            for (Index p = 0; p < P; ++p) {
                value[static_cast<std::size_t>(p)].packet =
                    ploadu<Packet<T>>(values + j * stride + column + p * packet_size<T>);
            }
            for (Index h = 0; h < H; ++h) {
                const auto weight = pset1<Packet<T>>(weights[(head + h) * largest_block + j]);
                for (Index p = 0; p < P; ++p) {
                    auto& sum = sums[static_cast<std::size_t>(h * P + p)].packet;
                    sum = pmadd(weight, value[static_cast<std::size_t>(p)].packet, sum);
                }
            }
        }
        for (Index h = 0; h < H; ++h) {
            for (Index p = 0; p < P; ++p) {
                pstoreu(result + h * dim + p * packet_size<T>,
                        sums[static_cast<std::size_t>(h * P + p)].packet);
            }
        }
    }

    /// Heads [head, head + H), all columns.
    template <Index H>
    void add(Index head) const {
        constexpr Index wide = 4;  // packets
        Index column = 0;
        for (; column + wide * packet_size<T> <= dim; column += wide * packet_size<T>) {
            add<H, wide>(head, column);
        }
        for (; column + packet_size<T> <= dim; column += packet_size<T>) {
            add<H, 1>(head, column);
        }
        for (; column < dim; ++column) {
            for (Index h = head; h < head + H; ++h) {
                for (Index j = 0; j < keys; ++j) {
                    T& sum = out[h * dim + column];
                    sum =
                        std::fma(weights[h * largest_block + j], values[j * stride + column], sum);
                }
            }
        }
    }

    /// Heads [head, heads), at most H at once.
    template <Index H = num_registers >= 32 ? 4 : 2>
    void add_heads(Index head, Index heads) const {
        for (; head + H <= heads; head += H) {
            add<H>(head);
        }
        if constexpr (H > 1) {
            if (head < heads) {
                add_heads<H - 1>(head, heads);
            }
        }
    }
};

/// Columns [first, last) of the keys and values from number `key` on, before `end`: a large block
/// of them, or as many small ones as that holds. Returns the number of the next.
template <class T, class Ranges>
[[nodiscard]] Index bring_keys_into_cache(const Ranges& ranges, Index block_size, Index key,
                                          Index end, View<const T, 2> k, View<const T, 2> v,
                                          Index first, Index last) {
    const Index next = std::min(end, key + largest_block / block_size * block_size);
    for (const auto& x : {k, v}) {
        for (Index j = key; j < next; j += block_size) {
            bring_into_cache(x, ranges.row_of(j), std::min(block_size, next - j), first, last);
        }
    }
    return next;
}

/// Query row i of the kv heads [first_kv, last_kv), with all heads of each. Keys come block by
/// block, and each block serves all heads before the next.
template <class T, class Ranges>
void attend_row(const AttentionShape& shape, Index i, Index first_kv, Index last_kv,
                View<const T, 2> q, View<const T, 2> k, View<const T, 2> v, const Ranges& ranges,
                View<T, 2> out, View<T, 2> logsumexp) {
    const Index dim = shape.head_dim;
    const Index group = shape.heads / shape.kv_heads;
    const Index first = first_kv * group;
    const Index heads = last_kv * group - first;
    const T scale = T{1} / std::sqrt(static_cast<T>(dim));
    T* const result = out.row(i).data() + first * dim;
    std::fill_n(result, heads * dim, T{0});
    auto* const softmax = thread_scratch<OnlineSoftmax<T>, 0>(heads);
    std::fill_n(softmax, heads, OnlineSoftmax<T>{});
    T* const scores = thread_scratch<T, 2>(heads * largest_block);
    const Index block_size = ranges.is_paged() ? ranges.block_size : largest_block;
    Index fetched = ranges.begin[i];
    for (Index key = ranges.begin[i]; key < ranges.end[i]; key += block_size) {
        const Index keys = std::min(block_size, ranges.end[i] - key);
        const Index row = ranges.row_of(key);
        if (key == fetched) {
            fetched = bring_keys_into_cache<T>(ranges, block_size, key, ranges.end[i], k, v,
                                               first_kv * dim, last_kv * dim);
        }
        for (Index kv = first_kv; kv < last_kv; ++kv) {
            const DotProduct<T> product{.x = q.row(i).data() + kv * group * dim,
                                        .w = k.row(row).data() + kv * dim,
                                        .y = scores + (kv - first_kv) * group * largest_block,
                                        .depth = dim,
                                        .w_stride = k.columns(),
                                        .y_stride = largest_block,
                                        .accumulate = false};
            product.run(group, 0, keys);
        }
        for (Index kv = first_kv; kv < last_kv; ++kv) {
            const Index own = (kv - first_kv) * group;
            for (Index h = own; h < own + group; ++h) {
                softmax[h].add(scores + h * largest_block, keys, scale, result + h * dim, dim);
            }
            const BlockWeights<T> weights{.weights = scores + own * largest_block,
                                          .values = v.row(row).data() + kv * dim,
                                          .keys = keys,
                                          .stride = v.columns(),
                                          .dim = dim,
                                          .out = result + own * dim};
            weights.add_heads(0, group);
        }
    }
    for (Index h = 0; h < heads; ++h) {
        logsumexp(i, first + h) = softmax[h].finish(result + h * dim, dim);
    }
}

}  // namespace mor::cpu::detail
