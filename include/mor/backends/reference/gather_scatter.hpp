// SPDX-License-Identifier: Apache-2.0
//
// Row movement of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/gather_scatter.hpp>

namespace mor {

// out[i] = x[rows[i]]
template <class T>
struct Kernel<op::GatherRows, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> rows, View<T, 2> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                out(i, j) = x(rows[i], j);
            }
        }
    }
};

// out[i] = weight[i] * x[rows[i]]
template <class T>
struct Kernel<op::GatherRowsWeighted, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> rows, View<const T, 1> weight, View<T, 2> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                out(i, j) = weight[i] * x(rows[i], j);
            }
        }
    }
};

// out[rows[i]] = x[i]
template <class T>
struct Kernel<op::ScatterRows, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> rows, View<T, 2> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                out(rows[i], j) = x(i, j);
            }
        }
    }
};

// out[rows[i]] += x[i]
template <class T>
struct Kernel<op::ScatterAddRows, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> rows, View<T, 2> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                out(rows[i], j) += x(i, j);
            }
        }
    }
};

// out[rows[i]] += weight[i] * x[i]
template <class T>
struct Kernel<op::ScatterAddRowsWeighted, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> rows, View<const T, 1> weight, View<T, 2> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                out(rows[i], j) += weight[i] * x(i, j);
            }
        }
    }
};

// out[i] = a[rows[i]] . b[i]
template <class T>
struct Kernel<op::RowDot, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> a,
                    View<const Index, 1> rows, View<const T, 2> b, View<T, 1> out) {
        for (Index i = 0; i < rows.size(); ++i) {
            out[i] = static_cast<T>(reference::detail::dot<T>(a.row(rows[i]), b.row(i)));
        }
    }
};

}  // namespace mor
