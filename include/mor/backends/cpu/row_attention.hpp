// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cpu backend, one query row at a time: over paged keys, and wherever a sequence
// asks for too few rows to fill a tile. Block by block with an online softmax, so that a row's
// result does not depend on the other rows.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/dot_products.hpp>
#include <mor/backends/cpu/online_softmax.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace mor::cpu::detail {

inline constexpr Index heads_together = 8;  // that read a block of keys
inline constexpr Index largest_block = 64;

/// out += weights [keys] * values [keys, dim], key after key.
template <class T>
void add_weighted_rows(const T* weights, Index keys, const T* values, Index stride, Index dim,
                       T* out) {
    using namespace Eigen::internal;
    const Index whole = dim - dim % packet_size<T>;
    for (Index c = 0; c < whole; c += packet_size<T>) {
        auto sum = ploadu<Packet<T>>(out + c);
        for (Index j = 0; j < keys; ++j) {
            sum = pmadd(pset1<Packet<T>>(weights[j]), ploadu<Packet<T>>(values + j * stride + c),
                        sum);
        }
        pstoreu(out + c, sum);
    }
    for (Index c = whole; c < dim; ++c) {
        for (Index j = 0; j < keys; ++j) {
            out[c] = std::fma(weights[j], values[j * stride + c], out[c]);
        }
    }
}

/// Heads [first, first + heads) of query row i, at most heads_together of one kv head.
template <class T, class Ranges>
void attend_heads(const AttentionShape& shape, Index i, Index first, Index heads,
                  View<const T, 2> q, View<const T, 2> k, View<const T, 2> v, const Ranges& ranges,
                  View<T, 2> out, View<T, 2> logsumexp) {
    const Index dim = shape.head_dim;
    const Index kv_column = first / (shape.heads / shape.kv_heads) * dim;
    const T scale = T{1} / std::sqrt(static_cast<T>(dim));
    const T* const query = q.row(i).data() + first * dim;
    T* const result = out.row(i).data() + first * dim;
    std::fill_n(result, heads * dim, T{0});
    std::array<OnlineSoftmax<T>, heads_together> softmax;
    alignas(64) std::array<T, heads_together * largest_block> scores;
    const Index block_size = ranges.is_paged() ? ranges.block_size : largest_block;
    for (Index key = ranges.begin[i]; key < ranges.end[i]; key += block_size) {
        const Index keys = std::min(block_size, ranges.end[i] - key);
        const Index row = ranges.row_of(key);
        const DotProduct<T> product{.x = query,
                                    .w = k.row(row).data() + kv_column,
                                    .y = scores.data(),
                                    .depth = dim,
                                    .w_stride = k.columns(),
                                    .y_stride = largest_block,
                                    .accumulate = false};
        product.run(heads, 0, keys);
        for (Index h = 0; h < heads; ++h) {
            T* const own = scores.data() + h * largest_block;
            T* const mine = result + h * dim;
            softmax[static_cast<std::size_t>(h)].add(own, keys, scale, mine, dim);
            add_weighted_rows(own, keys, v.row(row).data() + kv_column, v.columns(), dim, mine);
        }
    }
    for (Index h = 0; h < heads; ++h) {
        logsumexp(i, first + h) =
            softmax[static_cast<std::size_t>(h)].finish(result + h * dim, dim);
    }
}

/// The heads of one kv head, of query row i.
template <class T, class Ranges>
void attend_row(const AttentionShape& shape, Index i, Index kv_head, View<const T, 2> q,
                View<const T, 2> k, View<const T, 2> v, const Ranges& ranges, View<T, 2> out,
                View<T, 2> logsumexp) {
    const Index group = shape.heads / shape.kv_heads;
    const Index end = (kv_head + 1) * group;
    for (Index head = end - group; head < end; head += heads_together) {
        attend_heads<T>(shape, i, head, std::min(heads_together, end - head), q, k, v, ranges, out,
                        logsumexp);
    }
}

}  // namespace mor::cpu::detail
