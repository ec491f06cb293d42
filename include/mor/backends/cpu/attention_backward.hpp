// SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention. With P = exp(S - logsumexp) and D = rowsum(dout * out):
// dV = P^T dout, dS = P * (dout V^T - D), dQ = scale dS K, dK = scale dS^T Q. Scores are computed
// again, tile by tile and transposed: then both sums over queries read them row by row.
#pragma once

#include <mor/backends/cpu/attention_tiles.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace mor {

namespace cpu::detail {

/// The views of one call.
template <class T>
struct AttentionGradient {
    View<const T, 2> q;
    View<const T, 2> k;
    View<const T, 2> v;
    View<const T, 2> out;
    View<const T, 2> logsumexp;
    View<const T, 2> dout;
    View<T, 2> dq;
    View<T, 2> dk;
    View<T, 2> dv;
};

/// The keys of one sequence for one kv head, against all queries of the heads that share it.
template <class T, class Ranges>
class KeyHeadBackward {
    using F = AttentionFactors<T>;
    static constexpr Index tile = attention_tile;
    static constexpr auto tile_elements = static_cast<std::size_t>(tile * tile);

public:
    KeyHeadBackward(const AttentionShape& shape, Index kv_head, const Ranges& ranges,
                    const AttentionGradient<T>& views)
        : dim_{shape.head_dim},
          kv_column_{kv_head * shape.head_dim},
          scale_{T{1} / std::sqrt(static_cast<T>(shape.head_dim))},
          ranges_{ranges},
          views_{views} {
        const Index by_queries = panels_size<T>(tile, dim_);
        const Index by_columns = panels_size<T>(dim_, tile);
        T* next = thread_scratch<T, 2>(2 * by_queries + 3 * by_columns);
        const auto take = [&](Index size) { return std::exchange(next, next + size); };
        queries_transposed_ = take(by_queries);
        upstream_transposed_ = take(by_queries);
        queries_ = take(by_columns);
        upstream_ = take(by_columns);
        keys_ = take(by_columns);
    }

    /// Query rows of one head; writes their dq and adds to dk and dv.
    void run(Index head, const QueryRun& run) {
        for (Index first = run.first; first < run.last; first += tile) {
            const Index rows = std::min(tile, run.last - first);
            start_queries(head, first, rows);
            const Index end = ranges_.end[first + rows - 1];
            for (Index key = ranges_.begin[first]; key < end; key += tile) {
                add_keys(head, first, rows, key, std::min(tile, end - key));
            }
        }
    }

private:
    /// Packs a tile of queries and what came from above.
    void start_queries(Index head, Index first, Index rows) {
        const Index column = head * dim_;
        const auto queries = head_rows(views_.q, first, rows, column);
        const auto upstream = head_rows(views_.dout, first, rows, column);
        pack_rows_transposed<T>(upstream, dim_, upstream_transposed_);
        pack_rows_transposed<T>(head_rows(views_.out, first, rows, column), dim_,
                                queries_transposed_);
        add_up_deltas(rows);
        pack_rows_transposed<T>(queries, dim_, queries_transposed_);
        pack_rows<T>(queries, dim_, queries_);
        pack_rows<T>(upstream, dim_, upstream_);
        // Past the last query nothing is seen, and numbers are finite.
        logsumexp_.fill(0);
        end_.fill(0);
        for (Index i = 0; i < rows; ++i) {
            const auto at = static_cast<std::size_t>(i);
            logsumexp_[at] = views_.logsumexp(first + i, head);
            end_[at] = static_cast<T>(ranges_.end[first + i] - ranges_.begin[first]);
            std::fill_n(views_.dq.row(first + i).data() + column, dim_, T{0});
        }
    }

    /// rowsum(dout * out), summed in the order of the products that it is subtracted from, so that
    /// what is equal cancels. The output lies where the queries will.
    void add_up_deltas(Index rows) {
        using namespace Eigen::internal;
        for (Index i = 0; i < rows; i += packet_size<T>) {
            const Index at = i / panel_width<F> * panel_width<F> * dim_ + i % panel_width<F>;
            auto sum = pset1<Packet<T>>(T{0});
            for (Index k = 0; k < dim_; ++k) {
                const Index line = at + k * panel_width<F>;
                sum = pmadd(pload<Packet<T>>(queries_transposed_ + line),
                            pload<Packet<T>>(upstream_transposed_ + line), sum);
            }
            pstore(delta_.data() + i, sum);
        }
    }

    /// A few keys at a time, and of the queries those that see the first of them.
    void add_keys(Index head, Index first, Index rows, Index key, Index keys) {
        const Index number = key - ranges_.begin[first];
        for (Index j = 0; j < keys; j += tile_rows) {
            const Index count = std::min(tile_rows, keys - j);
            const Index unseen = std::count_if(end_.data(), end_.data() + rows, [&](T end) {
                return end <= static_cast<T>(number + j);
            });
            const Index panel = unseen / panel_width<F>;
            const Index column = panel * panel_width<F>;
            const auto part = [&](auto& elements, Index from) {
                return HeadRows<T>{elements.data() + j * tile + from, tile, count};
            };
            const auto multiply_by = [&](View<const T, 2> left, const T* right, auto& out) {
                multiply_heads<T>(head_rows(left, key + j, count, kv_column_),
                                  right + column * dim_, panel_width<F> * dim_, dim_,
                                  part(out, column), rows - column, Write::overwrite);
            };
            multiply_by(views_.k, queries_transposed_, probability_);
            multiply_by(views_.v, upstream_transposed_, gradient_);
            for (Index i = j; i < j + count; ++i) {
                differentiate(number + i, i, column, rows);
            }
            const auto add = [&](auto& left, const T* right, View<T, 2> out) {
                const auto own = part(left, unseen);
                multiply_heads<T>({own.data, own.stride, count}, right + unseen * panel_width<F>,
                                  panel_width<F> * rows, rows - unseen,
                                  head_rows(out, key + j, count, kv_column_), dim_,
                                  Write::accumulate);
            };
            add(probability_, upstream_, views_.dv);
            add(gradient_, queries_, views_.dk);
        }
        pack_rows<T>(head_rows(views_.k, key, keys, kv_column_), dim_, keys_);
        transpose_gradient(keys, rows);
        for (Index i = 0; i < rows; i += tile_rows) {
            const Index count = std::min(tile_rows, rows - i);
            const Index seen = std::clamp<Index>(ranges_.end[first + i + count - 1] - key, 0, keys);
            multiply_heads<T>(
                {probability_.data() + i * tile, tile, count}, keys_, panel_width<F> * keys, seen,
                head_rows(views_.dq, first + i, count, head * dim_), dim_, Write::accumulate);
        }
    }

    /// Key number `number` of the sequence, row j of the tile: probabilities from scores, and the
    /// gradient of scores from that of probabilities. Whole packets, zeros where nothing is seen
    /// and before column `begin`.
    void differentiate(Index number, Index j, Index begin, Index rows) {
        using namespace Eigen::internal;
        T* const p = probability_.data() + j * tile;
        T* const g = gradient_.data() + j * tile;
        const auto scale = pset1<Packet<T>>(scale_);
        const auto zero = pset1<Packet<T>>(T{0});
        const auto own = pset1<Packet<T>>(static_cast<T>(number));
        std::fill_n(p, begin, T{0});
        std::fill_n(g, begin, T{0});
        for (Index i = begin; i < rows; i += packet_size<T>) {
            const auto hidden = pcmp_le(pload<Packet<T>>(end_.data() + i), own);
            const auto score = pload<Packet<T>>(p + i);
            const auto weight =
                pselect(hidden, zero,
                        pexp(psub(pmul(scale, score), pload<Packet<T>>(logsumexp_.data() + i))));
            const auto difference =
                psub(pload<Packet<T>>(g + i), pload<Packet<T>>(delta_.data() + i));
            pstore(p + i, weight);
            pstore(g + i, pselect(hidden, zero, pmul(scale, pmul(weight, difference))));
        }
    }

    /// The gradient of scores, by queries, into the tile of probabilities, which nobody needs any
    /// more.
    void transpose_gradient(Index keys, Index rows) {
        for (Index j = 0; j < keys; j += packet_size<T>) {
            for (Index i = 0; i < rows; i += packet_size<T>) {
                transpose_square(gradient_.data() + j * tile + i, tile,
                                 probability_.data() + i * tile + j, tile);
            }
        }
    }

    Index dim_;
    Index kv_column_;
    T scale_;
    const Ranges& ranges_;
    const AttentionGradient<T>& views_;
    T* queries_transposed_ = nullptr;  // right factors, see attention_tiles.hpp
    T* upstream_transposed_ = nullptr;
    T* queries_ = nullptr;
    T* upstream_ = nullptr;
    T* keys_ = nullptr;
    alignas(64) std::array<T, static_cast<std::size_t>(tile)> delta_;
    alignas(64) std::array<T, static_cast<std::size_t>(tile)> logsumexp_;
    alignas(64) std::array<T, static_cast<std::size_t>(tile)> end_;  // counted from the first key
    alignas(64) std::array<T, tile_elements> probability_;           // [keys, queries]
    alignas(64) std::array<T, tile_elements> gradient_;
};

}  // namespace cpu::detail

template <class T, class Factor>
struct Kernel<op::AttentionBackward, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;

    static void run(Context<B>& context, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<const T, 2> out, View<const T, 2> logsumexp, View<const T, 2> dout,
                    View<T, 2> dq, View<T, 2> dk, View<T, 2> dv) {
        using namespace cpu::detail;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto runs = context.arena().template make<QueryRun, 1>({q.rows()});
        const Index num_runs = split_queries(ranges.begin, q.rows(), runs.data());
        const AttentionGradient<T> views{q, k, v, out, logsumexp, dout, dq, dk, dv};
        // A task owns the keys of one sequence and kv head, so that no two tasks write the same.
        context.backend().parallel_for(num_runs * shape.kv_heads, 1, [&](Index task, Index last) {
            const Index group = shape.heads / shape.kv_heads;
            for (; task < last; ++task) {
                const Index kv_head = task % shape.kv_heads;
                KeyHeadBackward<T, KeyRanges<B>> backward{shape, kv_head, ranges, views};
                for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
                    backward.run(head, runs.data()[task / shape.kv_heads]);
                }
            }
        });
    }
};

}  // namespace mor
