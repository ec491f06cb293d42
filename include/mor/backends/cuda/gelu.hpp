// SPDX-License-Identifier: Apache-2.0
//
// GELU of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/gelu.hpp>

#include <cmath>
#include <numbers>

namespace mor {

namespace cuda::detail {

/// Phi(x) = erfc(-x / sqrt(2)) / 2, exact in its tail too.
template <class T>
[[nodiscard]] MOR_HOST_DEVICE T normal_distribution(T x) {
    constexpr T minus_half_root = static_cast<T>(-0.5 * std::numbers::sqrt2);
    return T{0.5} * std::erfc(minus_half_root * x);
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::Gelu, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> y) {
        context.backend().system().for_each(x.size(), [=] MOR_KERNEL(Index i) {
            const T value = cuda::in_kernel(x.flat())[i];
            cuda::in_kernel(y.flat())[i] = value * cuda::detail::normal_distribution(value);
        });
    }
};

// d (x Phi(x)) = Phi(x) + x phi(x), phi the normal density.
template <class T, class S>
struct Kernel<op::GeluBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstMatrixView<B> dy,
                    MatrixView<B> dx) {
        constexpr T inverse_root =
            static_cast<T>(0.5 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
        context.backend().system().for_each(x.size(), [=] MOR_KERNEL(Index i) {
            const T value = cuda::in_kernel(x.flat())[i];
            const T density = inverse_root * std::exp(T{-0.5} * value * value);
            cuda::in_kernel(dx.flat())[i] =
                cuda::in_kernel(dy.flat())[i] *
                (cuda::detail::normal_distribution(value) + value * density);
        });
    }
};

}  // namespace mor
