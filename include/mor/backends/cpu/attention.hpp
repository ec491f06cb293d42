// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cpu backend: tiles of queries against tiles of keys with an online softmax
// (Milakov and Gimelshein 2018; Dao et al. 2022), so that no score matrix is ever held.
#pragma once

#include <mor/backends/cpu/attention_tiles.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/online_softmax.hpp>
#include <mor/backends/cpu/row_attention.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace mor {

namespace cpu::detail {

/// A tile of queries of the heads that share a kv head, key tile by key tile.
template <class T, class Ranges>
class QueryTile {
public:
    QueryTile(const AttentionShape& shape, const QueryRun& run, Index kv_head, const Ranges& ranges)
        : dim_{shape.head_dim},
          kv_column_{kv_head * shape.head_dim},
          group_{shape.heads / shape.kv_heads},
          first_head_{kv_head * group_},
          run_{run},
          ranges_{ranges} {}

    void run(View<const T, 2> q, View<const T, 2> k, View<const T, 2> v, View<T, 2> out,
             View<T, 2> logsumexp) const {
        const Index key_panels = panels_size<T>(attention_tile, dim_);
        const Index value_panels = panels_size<T>(dim_, attention_tile);
        T* const packed_keys = thread_scratch<T, 2>(key_panels + value_panels);
        T* const packed_values = packed_keys + key_panels;
        auto* const softmax = thread_scratch<OnlineSoftmax<T>, 0>(group_ * attention_tile);
        std::fill_n(softmax, group_ * attention_tile, OnlineSoftmax<T>{});
        for (Index row = run_.first; row < run_.last; ++row) {
            std::fill_n(out.row(row).data() + first_head_ * dim_, group_ * dim_, T{0});
        }
        const Index end = ranges_.end[run_.last - 1];
        for (Index key = ranges_.begin[run_.first]; key < end; key += attention_tile) {
            const Index keys = std::min(attention_tile, end - key);
            pack_rows_transposed<T>(head_rows(k, key, keys, kv_column_), dim_, packed_keys);
            pack_rows<T>(head_rows(v, key, keys, kv_column_), dim_, packed_values);
            for (Index h = 0; h < group_; ++h) {
                for (Index first = run_.first; first < run_.last; first += tile_rows) {
                    const Index rows = std::min(tile_rows, run_.last - first);
                    const Index column = (first_head_ + h) * dim_;
                    attend(head_rows(q, first, rows, column), first, key, keys, packed_keys,
                           packed_values, softmax + h * attention_tile + first - run_.first,
                           head_rows(out, first, rows, column));
                }
            }
        }
        for (Index h = 0; h < group_; ++h) {
            for (Index row = run_.first; row < run_.last; ++row) {
                const OnlineSoftmax<T>& own = softmax[h * attention_tile + row - run_.first];
                const Index head = first_head_ + h;
                logsumexp(row, head) = own.finish(out.row(row).data() + head * dim_, dim_);
            }
        }
    }

private:
    /// A few rows of queries, from row `first` on, against one tile of keys.
    void attend(HeadRows<const T> queries, Index first, Index key, Index keys, const T* packed_keys,
                const T* packed_values, OnlineSoftmax<T>* softmax, HeadRows<T> result) const {
        using F = AttentionFactors<T>;
        const T scale = T{1} / std::sqrt(static_cast<T>(dim_));
        alignas(64) std::array<T, static_cast<std::size_t>(tile_rows * attention_tile)> scores;
        // What no row sees is not computed: half of the tiles on the diagonal.
        const Index seen = std::clamp<Index>(ranges_.end[first + queries.rows - 1] - key, 0, keys);
        multiply_heads<T>(queries, packed_keys, panel_width<F> * dim_, dim_,
                          {scores.data(), attention_tile, queries.rows}, seen, Write::overwrite);
        for (Index i = 0; i < queries.rows; ++i) {
            T* const own = scores.data() + i * attention_tile;
            const Index visible = std::clamp<Index>(ranges_.end[first + i] - key, 0, seen);
            if (visible > 0) {
                softmax[i].add(own, visible, scale, result.data + i * result.stride, dim_);
            }
            std::fill(own + visible, own + seen, T{0});
        }
        multiply_heads<T>({scores.data(), attention_tile, queries.rows}, packed_values,
                          panel_width<F> * keys, seen, result, dim_, Write::accumulate);
    }

    Index dim_;
    Index kv_column_;
    Index group_;
    Index first_head_;
    QueryRun run_;
    const Ranges& ranges_;
};

}  // namespace cpu::detail

template <class T, class Factor>
struct Kernel<op::Attention, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;

    static void run(Context<B>& context, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<T, 2> out, View<T, 2> logsumexp) {
        using namespace cpu::detail;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto runs = context.arena().template make<QueryRun, 1>({q.rows()});
        // Paged rows come in any order, and are each computed alone.
        const Index num_runs =
            split_queries(ranges.begin, ranges.is_paged() ? 1 : attention_tile, runs.data());
        context.backend().parallel_for(num_runs * shape.kv_heads, 1, [&](Index task, Index last) {
            while (task < last) {
                const QueryRun& own = runs.data()[task / shape.kv_heads];
                const Index first_kv = task % shape.kv_heads;
                const Index last_kv = std::min(shape.kv_heads, first_kv + last - task);
                task += last_kv - first_kv;
                constexpr Index few = 3;  // packing keys would take longer than using them
                if (own.rows() < few) {
                    for (Index row = own.first; row < own.last; ++row) {
                        attend_row<T>(shape, row, first_kv, last_kv, q, k, v, ranges, out,
                                      logsumexp);
                    }
                    continue;
                }
                for (Index kv_head = first_kv; kv_head < last_kv; ++kv_head) {
                    QueryTile<T, KeyRanges<B>>{shape, own, kv_head, ranges}.run(q, k, v, out,
                                                                                logsumexp);
                }
            }
        });
    }
};

}  // namespace mor
