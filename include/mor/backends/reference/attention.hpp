// SPDX-License-Identifier: Apache-2.0
//
// Attention of the Reference backend: one query row and head at a time, softmax in two passes.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace mor {

namespace reference::detail {

/// The columns of `head` in row `i`, [head_dim].
template <class T>
[[nodiscard]] View<T, 1> head_of(View<T, 2> x, Index i, Index head, Index head_dim) {
    return x.row(i).slice(head * head_dim, head_dim);
}

}  // namespace reference::detail

template <class T>
struct Kernel<op::Attention, Reference<T>> {
    using B = Reference<T>;

    static void run(Context<B>& /*context*/, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<T, 2> out, View<T, 2> logsumexp) {
        using reference::detail::dot;
        using reference::detail::head_of;
        const Index dim = shape.head_dim;
        const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
        std::vector<double> weights;
        for (Index i = 0; i < q.rows(); ++i) {
            for (Index h = 0; h < shape.heads; ++h) {
                const Index kv_head = h / (shape.heads / shape.kv_heads);
                const View<const T, 1> query = head_of(q, i, h, dim);

                weights.clear();
                for (Index j = ranges.begin[i]; j < ranges.end[i]; ++j) {
                    weights.push_back(scale *
                                      dot<T>(query, head_of(k, ranges.row_of(j), kv_head, dim)));
                }
                const double largest = *std::max_element(weights.begin(), weights.end());
                double sum = 0;
                for (double& weight : weights) {
                    weight = std::exp(weight - largest);
                    sum += weight;
                }
                logsumexp(i, h) = static_cast<T>(largest + std::log(sum));

                for (Index c = 0; c < dim; ++c) {
                    double value = 0;
                    Index j = ranges.begin[i];
                    for (const double weight : weights) {
                        value += weight / sum * double{v(ranges.row_of(j++), kv_head * dim + c)};
                    }
                    out(i, h * dim + c) = static_cast<T>(value);
                }
            }
        }
    }
};

// With p_j = exp(scale q . k_j - logsumexp) and delta = dout . out:
//   dv_j += p_j dout,  ds_j = p_j (dout . v_j - delta),
//   dq = scale sum_j ds_j k_j,  dk_j += scale ds_j q
template <class T>
struct Kernel<op::AttentionBackward, Reference<T>> {
    using B = Reference<T>;

    static void run(Context<B>& /*context*/, const AttentionShape& shape, View<const T, 2> q,
                    View<const T, 2> k, View<const T, 2> v, const KeyRanges<B>& ranges,
                    View<const T, 2> out, View<const T, 2> logsumexp, View<const T, 2> dout,
                    View<T, 2> dq, View<T, 2> dk, View<T, 2> dv) {
        using reference::detail::dot;
        using reference::detail::head_of;
        const Index dim = shape.head_dim;
        const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
        std::vector<double> query_gradient(static_cast<std::size_t>(dim));
        for (Index i = 0; i < q.rows(); ++i) {
            for (Index h = 0; h < shape.heads; ++h) {
                const Index kv_head = h / (shape.heads / shape.kv_heads);
                const View<const T, 1> query = head_of(q, i, h, dim);
                const View<const T, 1> upstream = head_of(dout, i, h, dim);
                const double delta = dot<T>(upstream, head_of(out, i, h, dim));

                std::fill(query_gradient.begin(), query_gradient.end(), 0.0);
                for (Index j = ranges.begin[i]; j < ranges.end[i]; ++j) {
                    const View<const T, 1> key = head_of(k, j, kv_head, dim);
                    const View<const T, 1> value = head_of(v, j, kv_head, dim);
                    const View<T, 1> key_gradient = head_of(dk, j, kv_head, dim);
                    const View<T, 1> value_gradient = head_of(dv, j, kv_head, dim);
                    const double p = std::exp(scale * dot<T>(query, key) - double{logsumexp(i, h)});
                    const double ds = p * (dot<T>(upstream, value) - delta);
                    for (Index c = 0; c < dim; ++c) {
                        query_gradient[static_cast<std::size_t>(c)] += scale * ds * double{key[c]};
                        key_gradient[c] += static_cast<T>(scale * ds * double{query[c]});
                        value_gradient[c] += static_cast<T>(p * double{upstream[c]});
                    }
                }
                for (Index c = 0; c < dim; ++c) {
                    dq(i, h * dim + c) =
                        static_cast<T>(query_gradient[static_cast<std::size_t>(c)]);
                }
            }
        }
    }
};

}  // namespace mor
