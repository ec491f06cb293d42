// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Cuda backend: those of its system.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/linear.hpp>

namespace mor {

// y = x weight^T
template <class T, class S>
struct Kernel<op::Linear, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstMatrixView<B> weight,
                    MatrixView<B> y, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(Factor{x}, Factor{weight, cuda::Reading::transposed}, y,
                                           write);
    }

    /// The same with a weight that is rounded already, to the bit.
    static void run(Context<B>& context, ConstMatrixView<B> x,
                    const typename B::PackedWeight& weight, MatrixView<B> y, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(Factor{x}, weight.factor(cuda::Reading::transposed), y,
                                           write);
    }
};

// dx = dy weight
template <class T, class S>
struct Kernel<op::LinearBackwardInput, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> weight,
                    MatrixView<B> dx, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(Factor{dy}, Factor{weight}, dx, write);
    }

    /// The same with a weight that is rounded already, to the bit.
    static void run(Context<B>& context, ConstMatrixView<B> dy,
                    const typename B::PackedWeight& weight, MatrixView<B> dx, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(Factor{dy}, weight.factor(cuda::Reading::as_stored), dx,
                                           write);
    }
};

// dweight += dy^T x
template <class T, class S>
struct Kernel<op::LinearBackwardWeight, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> x,
                    MatrixView<B> dweight) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(Factor{dy, cuda::Reading::transposed}, Factor{x},
                                           dweight, Write::accumulate);
    }
};

}  // namespace mor
