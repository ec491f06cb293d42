// SPDX-License-Identifier: Apache-2.0
//
// Scaling and filling of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/ops/scale.hpp>

namespace mor {

namespace cuda::detail {

/// dy[i, j] * x[i, j]
template <class B>
struct ProductOfElements {
    ConstMatrixView<B> dy;
    ConstMatrixView<B> x;

    MOR_HOST_DEVICE typename B::Element operator()(Index i, Index j) const {
        return in_kernel(dy)(i, j) * in_kernel(x)(i, j);
    }
};

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::Scale, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, double factor, MatrixView<B> y,
                    Write write) {
        const bool accumulate = write == Write::accumulate;
        const auto by = static_cast<T>(factor);
        context.backend().system().for_each(x.size(), [=] MOR_KERNEL(Index i) {
            T& out = cuda::in_kernel(y.flat())[i];
            const T old = accumulate ? out : T{0};
            out = old + by * cuda::in_kernel(x.flat())[i];
        });
    }
};

template <class T, class S>
struct Kernel<op::Fill, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, double value, VectorView<B> out) {
        const auto element = static_cast<T>(value);
        context.backend().system().for_each(
            out.size(), [=] MOR_KERNEL(Index i) { cuda::in_kernel(out)[i] = element; });
    }
};

template <class T, class S>
struct Kernel<op::ScaleColumns, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> factor,
                    MatrixView<B> y, Write write) {
        const bool accumulate = write == Write::accumulate;
        context.backend().system().for_each_team(
            x.rows(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                    T& out = cuda::in_kernel(y)(i, j);
                    const T old = accumulate ? out : T{0};
                    out = old + cuda::in_kernel(factor)[j] * cuda::in_kernel(x)(i, j);
                }
            });
    }
};

template <class T, class S>
struct Kernel<op::ScaleColumnsBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> factor,
                    ConstMatrixView<B> dy, MatrixView<B> dx, VectorView<B> dfactor) {
        // First, because dx may be dy.
        cuda::detail::add_column_sums(context, x.rows(), cuda::detail::ProductOfElements<B>{dy, x},
                                      dfactor);
        context.backend().system().for_each_team(x.rows(), [=] MOR_KERNEL(typename S::Team & team,
                                                                          Index i) {
            for (Index j = team.rank(); j < x.columns(); j += team.size()) {
                cuda::in_kernel(dx)(i, j) = cuda::in_kernel(factor)[j] * cuda::in_kernel(dy)(i, j);
            }
        });
    }
};

}  // namespace mor
