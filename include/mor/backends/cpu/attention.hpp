// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Cpu backend: tiles of queries against tiles of keys with an online softmax
// (Milakov and Gimelshein 2018; Dao et al. 2022), so that no score matrix is ever held.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/paged_attention.hpp>
#include <mor/ops/attention.hpp>

#include <array>
#include <cmath>
#include <limits>

namespace mor {

namespace cpu::detail {

inline constexpr Index query_tile = 64;
inline constexpr Index key_tile = 64;

/// A tile of scores or probabilities, on the stack.
template <class T>
using ScoreTile =
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, query_tile, key_tile>;

/// Query rows [first, last) that share the begin of their key range: one sequence, or part of it.
struct QueryRun {
    Index first = 0;
    Index last = 0;
};

/// Splits the query rows into runs of at most `longest` rows; returns how many were written.
inline Index split_queries(View<const Index, 1> begin, Index longest, QueryRun* runs) {
    Index count = 0;
    for (Index row = 0; row < begin.size(); ++row) {
        const bool continues = count > 0 && begin[row] == begin[runs[count - 1].first] &&
                               row - runs[count - 1].first < longest;
        if (!continues) {
            runs[count++].first = row;
        }
        runs[count - 1].last = row + 1;
    }
    return count;
}

}  // namespace cpu::detail

template <class T>
struct Kernel<op::Attention, Cpu<T>> {
    using B = Cpu<T>;

    static void run(Context<B>& context, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<T, 2> out, View<T, 2> logsumexp) {
        using namespace cpu::detail;
        if (ranges.is_paged()) {
            run_paged(context, shape, q, k, v, ranges, out, logsumexp);
            return;
        }
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto runs = context.arena().template make<QueryRun, 1>({q.rows()});
        const Index num_runs = split_queries(ranges.begin, query_tile, runs.data());
        context.backend().parallel_for(num_runs * shape.heads, 1, [&](Index first, Index last) {
            for (Index task = first; task < last; ++task) {
                tile_forward(shape, task % shape.heads, runs[task / shape.heads], q, k, v, ranges,
                             out, logsumexp);
            }
        });
    }

private:
    static void run_paged(Context<B>& context, const AttentionShape& shape, View<const T, 2> q,
                          View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                          View<T, 2> out, View<T, 2> logsumexp) {
        using namespace cpu::detail;
        const Index group = shape.heads / shape.kv_heads;
        context.backend().parallel_for(q.rows() * shape.kv_heads, 1, [&](Index first, Index last) {
            for (Index task = first; task < last; ++task) {
                const Index end = (task % shape.kv_heads + 1) * group;
                for (Index head = end - group; head < end; head += paged_heads) {
                    paged_attention<T>(shape, task / shape.kv_heads, head,
                                       std::min(paged_heads, end - head), q, k, v, ranges, out,
                                       logsumexp);
                }
            }
        });
    }

    static void tile_forward(const AttentionShape& shape, Index head,
                             const cpu::detail::QueryRun& run, View<const T, 2> q,
                             View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                             View<T, 2> out, View<T, 2> logsumexp) {
        using namespace cpu::detail;
        const Index dim = shape.head_dim;
        const Index kv_column = head / (shape.heads / shape.kv_heads) * dim;
        const Index rows = run.last - run.first;
        const T scale = T{1} / std::sqrt(static_cast<T>(dim));
        const auto queries = block(q, run.first, rows, head * dim, dim);
        auto result = block(out, run.first, rows, head * dim, dim);
        result.setZero();
        std::array<T, query_tile> largest;
        std::array<T, query_tile> sum{};
        largest.fill(-std::numeric_limits<T>::infinity());
        ScoreTile<T> scores;
        const Index begin = ranges.begin[run.first];
        const Index end = ranges.end[run.last - 1];
        for (Index key = begin; key < end; key += key_tile) {
            const Index keys = std::min(key_tile, end - key);
            scores.noalias() = queries * block(k, key, keys, kv_column, dim).transpose();
            for (Index i = 0; i < rows; ++i) {
                const auto at = static_cast<std::size_t>(i);
                const Index visible = std::clamp<Index>(ranges.end[run.first + i] - key, 0, keys);
                scores.row(i).tail(keys - visible).setZero();
                if (visible == 0) {
                    continue;
                }
                auto row = scores.row(i).head(visible).array();
                const T new_largest = std::max(largest[at], scale * row.maxCoeff());
                row = (scale * row - new_largest).exp();
                const T correction = std::exp(largest[at] - new_largest);
                sum[at] = sum[at] * correction + row.sum();
                result.row(i) *= correction;
                largest[at] = new_largest;
            }
            result.noalias() += scores * block(v, key, keys, kv_column, dim);
        }
        for (Index i = 0; i < rows; ++i) {
            const auto at = static_cast<std::size_t>(i);
            result.row(i) /= sum[at];
            logsumexp(run.first + i, head) = largest[at] + std::log(sum[at]);
        }
    }
};

// With P = exp(S - logsumexp) and D = rowsum(dout * out): dV = P^T dout, dS = P * (dout V^T - D),
// dQ = scale dS K, dK = scale dS^T Q. P is computed again, tile by tile.
template <class T>
struct Kernel<op::AttentionBackward, Cpu<T>> {
    using B = Cpu<T>;

    static void run(Context<B>& context, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<const T, 2> out, View<const T, 2> logsumexp, View<const T, 2> dout,
                    View<T, 2> dq, View<T, 2> dk, View<T, 2> dv) {
        using namespace cpu::detail;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto runs = context.arena().template make<QueryRun, 1>({q.rows()});
        const Index num_runs = split_queries(ranges.begin, q.rows(), runs.data());
        // A task owns the keys of one sequence and kv head, so that no two tasks write the same.
        context.backend().parallel_for(num_runs * shape.kv_heads, 1, [&](Index first, Index last) {
            for (Index task = first; task < last; ++task) {
                const Index group = shape.heads / shape.kv_heads;
                const Index kv_head = task % shape.kv_heads;
                for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
                    head_backward(shape, head, runs[task / shape.kv_heads], q, k, v, ranges, out,
                                  logsumexp, dout, dq, dk, dv);
                }
            }
        });
    }

private:
    static void head_backward(const AttentionShape& shape, Index head,
                              const cpu::detail::QueryRun& run, View<const T, 2> q,
                              View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                              View<const T, 2> out, View<const T, 2> logsumexp,
                              View<const T, 2> dout, View<T, 2> dq, View<T, 2> dk, View<T, 2> dv) {
        using namespace cpu::detail;
        const Index dim = shape.head_dim;
        const Index column = head * dim;
        const Index kv_column = head / (shape.heads / shape.kv_heads) * dim;
        const T scale = T{1} / std::sqrt(static_cast<T>(dim));
        ScoreTile<T> probability;
        ScoreTile<T> gradient;
        for (Index first = run.first; first < run.last; first += query_tile) {
            const Index rows = std::min(query_tile, run.last - first);
            const auto queries = block(q, first, rows, column, dim);
            const auto upstream = block(dout, first, rows, column, dim);
            auto dqueries = block(dq, first, rows, column, dim);
            dqueries.setZero();
            const Eigen::Matrix<T, Eigen::Dynamic, 1, 0, query_tile, 1> delta =
                upstream.cwiseProduct(block(out, first, rows, column, dim)).rowwise().sum();
            const Index end = ranges.end[first + rows - 1];
            for (Index key = ranges.begin[first]; key < end; key += key_tile) {
                const Index keys = std::min(key_tile, end - key);
                const auto key_block = block(k, key, keys, kv_column, dim);
                probability.noalias() = queries * key_block.transpose();
                gradient.noalias() = upstream * block(v, key, keys, kv_column, dim).transpose();
                for (Index i = 0; i < rows; ++i) {
                    const Index visible = std::clamp<Index>(ranges.end[first + i] - key, 0, keys);
                    auto p = probability.row(i).head(visible).array();
                    auto g = gradient.row(i).head(visible).array();
                    p = (scale * p - logsumexp(first + i, head)).exp();
                    g = scale * p * (g - delta[i]);
                    probability.row(i).tail(keys - visible).setZero();
                    gradient.row(i).tail(keys - visible).setZero();
                }
                block(dv, key, keys, kv_column, dim).noalias() +=
                    probability.transpose() * upstream;
                block(dk, key, keys, kv_column, dim).noalias() += gradient.transpose() * queries;
                dqueries.noalias() += gradient * key_block;
            }
        }
    }
};

}  // namespace mor
