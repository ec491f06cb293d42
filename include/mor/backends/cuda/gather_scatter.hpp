// SPDX-License-Identifier: Apache-2.0
//
// Row movement of the Cuda backend: a team a row.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/gather_scatter.hpp>

namespace mor {

namespace cuda::detail {

/// body(i, rows[i], j) for each i and each j in [0, columns): neighbouring threads have
/// neighbouring columns. `body` is called by kernels.
template <class B, class Body>
void for_each_moved(Context<B>& context, ConstIndexView<B> rows, Index columns, const Body& body) {
    context.backend().system().for_each_team(
        rows.size(), [=] MOR_KERNEL(typename B::System::Team & team, Index i) {
            const Index row = in_kernel(rows)[i];
            for (Index j = team.rank(); j < columns; j += team.size()) {
                body(i, row, j);
            }
        });
}

}  // namespace cuda::detail

// out[i] = x[rows[i]]
template <class T, class S>
struct Kernel<op::GatherRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X>
    static void run(Context<B>& context, View<const X, 2, typename B::Space> x,
                    ConstIndexView<B> rows, View<X, 2, typename B::Space> out) {
        cuda::detail::for_each_moved(context, rows, x.columns(),
                                     [=] MOR_KERNEL(Index i, Index row, Index j) {
                                         cuda::in_kernel(out)(i, j) = cuda::in_kernel(x)(row, j);
                                     });
    }
};

// out[i] = weight[i] * x[rows[i]]
template <class T, class S>
struct Kernel<op::GatherRowsWeighted, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    ConstVectorView<B> weight, MatrixView<B> out) {
        cuda::detail::for_each_moved(
            context, rows, x.columns(), [=] MOR_KERNEL(Index i, Index row, Index j) {
                cuda::in_kernel(out)(i, j) =
                    cuda::in_kernel(weight)[i] * cuda::in_kernel(x)(row, j);
            });
    }
};

// out[rows[i]] = x[i]
template <class T, class S>
struct Kernel<op::ScatterRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X>
    static void run(Context<B>& context, View<const X, 2, typename B::Space> x,
                    ConstIndexView<B> rows, View<X, 2, typename B::Space> out) {
        cuda::detail::for_each_moved(context, rows, x.columns(),
                                     [=] MOR_KERNEL(Index i, Index row, Index j) {
                                         cuda::in_kernel(out)(row, j) = cuda::in_kernel(x)(i, j);
                                     });
    }
};

// out[rows[i]] += x[i]
template <class T, class S>
struct Kernel<op::ScatterAddRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    MatrixView<B> out) {
        cuda::detail::for_each_moved(context, rows, x.columns(),
                                     [=] MOR_KERNEL(Index i, Index row, Index j) {
                                         cuda::in_kernel(out)(row, j) += cuda::in_kernel(x)(i, j);
                                     });
    }
};

// out[rows[i]] += weight[i] * x[i]
template <class T, class S>
struct Kernel<op::ScatterAddRowsWeighted, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    ConstVectorView<B> weight, MatrixView<B> out) {
        cuda::detail::for_each_moved(context, rows, x.columns(),
                                     [=] MOR_KERNEL(Index i, Index row, Index j) {
                                         cuda::in_kernel(out)(row, j) +=
                                             cuda::in_kernel(weight)[i] * cuda::in_kernel(x)(i, j);
                                     });
    }
};

// out[i] = a[rows[i]] . b[i]
template <class T, class S>
struct Kernel<op::RowDot, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> a, ConstIndexView<B> rows,
                    ConstMatrixView<B> b, VectorView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                T products{0};
                for (Index j = team.rank(); j < a.columns(); j += team.size()) {
                    products += cuda::in_kernel(a)(row, j) * cuda::in_kernel(b)(i, j);
                }
                const T sum = team.sum(products);
                if (team.rank() == 0) {
                    cuda::in_kernel(out)[i] = sum;
                }
            });
    }
};

}  // namespace mor
