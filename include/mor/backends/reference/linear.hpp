// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/linear.hpp>

namespace mor {

// y[i, j] = sum_k x[i, k] weight[j, k]
template <class T>
struct Kernel<op::Linear, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x, View<const T, 2> weight,
                    View<T, 2> y, Write write) {
        for (Index i = 0; i < y.rows(); ++i) {
            for (Index j = 0; j < y.columns(); ++j) {
                double sum = write == Write::accumulate ? double{y(i, j)} : 0.0;
                sum += reference::detail::dot<T>(x.row(i), weight.row(j));
                y(i, j) = static_cast<T>(sum);
            }
        }
    }
};

// dx[i, k] = sum_j dy[i, j] weight[j, k]
template <class T>
struct Kernel<op::LinearBackwardInput, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> dy,
                    View<const T, 2> weight, View<T, 2> dx, Write write) {
        for (Index i = 0; i < dx.rows(); ++i) {
            for (Index k = 0; k < dx.columns(); ++k) {
                double sum = write == Write::accumulate ? double{dx(i, k)} : 0.0;
                for (Index j = 0; j < weight.rows(); ++j) {
                    sum += double{dy(i, j)} * double{weight(j, k)};
                }
                dx(i, k) = static_cast<T>(sum);
            }
        }
    }
};

// dweight[j, k] += sum_i dy[i, j] x[i, k]
template <class T>
struct Kernel<op::LinearBackwardWeight, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        for (Index j = 0; j < dweight.rows(); ++j) {
            for (Index k = 0; k < dweight.columns(); ++k) {
                double sum = double{dweight(j, k)};
                for (Index i = 0; i < x.rows(); ++i) {
                    sum += double{dy(i, j)} * double{x(i, k)};
                }
                dweight(j, k) = static_cast<T>(sum);
            }
        }
    }
};

}  // namespace mor
