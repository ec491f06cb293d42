// SPDX-License-Identifier: Apache-2.0
//
// Row movement of the Cuda backend: a team a row.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/gather_scatter.hpp>

namespace mor {

// out[i] = x[rows[i]]
template <class T, class S>
struct Kernel<op::GatherRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    MatrixView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    cuda::in_kernel(out)(i, j) = cuda::in_kernel(x)(row, j);
                }
            });
    }
};

// out[i] = weight[i] * x[rows[i]]
template <class T, class S>
struct Kernel<op::GatherRowsWeighted, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    ConstVectorView<B> weight, MatrixView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                const T factor = cuda::in_kernel(weight)[i];
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    cuda::in_kernel(out)(i, j) = factor * cuda::in_kernel(x)(row, j);
                }
            });
    }
};

// out[rows[i]] = x[i]
template <class T, class S>
struct Kernel<op::ScatterRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    MatrixView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    cuda::in_kernel(out)(row, j) = cuda::in_kernel(x)(i, j);
                }
            });
    }
};

// out[rows[i]] += x[i]
template <class T, class S>
struct Kernel<op::ScatterAddRows, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    MatrixView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    cuda::in_kernel(out)(row, j) += cuda::in_kernel(x)(i, j);
                }
            });
    }
};

// out[rows[i]] += weight[i] * x[i]
template <class T, class S>
struct Kernel<op::ScatterAddRowsWeighted, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> rows,
                    ConstVectorView<B> weight, MatrixView<B> out) {
        context.backend().system().for_each_team(
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
                const Index row = cuda::in_kernel(rows)[i];
                const T factor = cuda::in_kernel(weight)[i];
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    cuda::in_kernel(out)(row, j) += factor * cuda::in_kernel(x)(i, j);
                }
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
            rows.size(), [=] MOR_HOST_DEVICE(typename S::Team & team, Index i) {
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
