// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/ops/rope.hpp>

namespace mor {

// (a, b) = (a cos - b sin, b cos + a sin); backward turns by the opposite angle.
template <class T, class S>
struct Kernel<op::Rope, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X>
    static void run(Context<B>& context, ConstIndexView<B> positions, ConstMatrixView<B> cosine,
                    ConstMatrixView<B> sine, View<X, 2, typename B::Space> x, Rotation rotation) {
        const T direction = rotation == Rotation::forward ? T{1} : T{-1};
        const auto half_dim = static_cast<int>(cosine.columns());
        const auto pairs = static_cast<int>(x.columns() / 2);
        context.backend().system().for_each_team(
            x.rows(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const Index position = cuda::in_kernel(positions)[i];
                const auto threads = static_cast<int>(team.size());
                for (int pair = static_cast<int>(team.rank()); pair < pairs; pair += threads) {
                    const int j = pair % half_dim;
                    const int first = 2 * (pair - j) + j;
                    const T a = cuda::widened(cuda::in_kernel(x)(i, first));
                    const T b = cuda::widened(cuda::in_kernel(x)(i, first + half_dim));
                    const T c = cuda::in_kernel(cosine)(position, j);
                    const T s = direction * cuda::in_kernel(sine)(position, j);
                    cuda::in_kernel(x)(i, first) = cuda::rounded_to<X>(a * c - b * s);
                    cuda::in_kernel(x)(i, first + half_dim) = cuda::rounded_to<X>(b * c + a * s);
                }
            });
    }
};

}  // namespace mor
