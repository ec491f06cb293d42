// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Cuda backend: those of its system.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/ops/linear.hpp>

#include <concepts>

namespace mor {

namespace cuda::detail {

template <class B>
[[nodiscard]] Factor<typename B::Element, typename B::Space> factor(
    ConstMatrixView<B> x, Reading reading = Reading::as_stored) {
    return {x, reading};
}
/// What is rounded already has its rows one after another.
template <class B>
    requires std::same_as<ActivationElement<B>, BFloat16>
[[nodiscard]] RoundedFactor<typename B::Space> factor(ConstActivationView<B> x,
                                                      Reading reading = Reading::as_stored) {
    return {x, x.columns(), reading};
}

}  // namespace cuda::detail

// y = x weight^T
template <class T, class S>
struct Kernel<op::Linear, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <ProductInput<B> X, ProductOutput<B> Y>
    static void run(Context<B>& context, X x, ConstMatrixView<B> weight, Y y, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(cuda::detail::factor<B>(x),
                                           Factor{weight, cuda::Reading::transposed}, y, write);
    }

    /// The same with a weight that is rounded already, to the bit.
    template <ProductInput<B> X, ProductOutput<B> Y>
    static void run(Context<B>& context, X x, const typename B::PackedWeight& weight, Y y,
                    Write write) {
        context.backend().system().product(cuda::detail::factor<B>(x),
                                           weight.factor(cuda::Reading::transposed), y, write);
    }
};

// dx = dy weight
template <class T, class S>
struct Kernel<op::LinearBackwardInput, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <ProductInput<B> DY, ProductOutput<B> DX>
    static void run(Context<B>& context, DY dy, ConstMatrixView<B> weight, DX dx, Write write) {
        using Factor = cuda::Factor<T, typename B::Space>;
        context.backend().system().product(cuda::detail::factor<B>(dy), Factor{weight}, dx, write);
    }

    /// The same with a weight that is rounded already, to the bit.
    template <ProductInput<B> DY, ProductOutput<B> DX>
    static void run(Context<B>& context, DY dy, const typename B::PackedWeight& weight, DX dx,
                    Write write) {
        context.backend().system().product(cuda::detail::factor<B>(dy),
                                           weight.factor(cuda::Reading::as_stored), dx, write);
    }
};

// dweight += dy^T x
template <class T, class S>
struct Kernel<op::LinearBackwardWeight, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <ProductInput<B> DY, ProductInput<B> X>
    static void run(Context<B>& context, DY dy, X x, MatrixView<B> dweight) {
        context.backend().system().product(cuda::detail::factor<B>(dy, cuda::Reading::transposed),
                                           cuda::detail::factor<B>(x), dweight, Write::accumulate);
    }
};

}  // namespace mor
