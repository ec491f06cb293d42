// SPDX-License-Identifier: Apache-2.0
//
// Scaling and filling, the same for every backend in host memory.
#pragma once

#include <mor/ops/scale.hpp>

#include <algorithm>

namespace mor {

template <HostBackend B>
struct Kernel<op::Scale, B> {
    static void run(Context<B>& /*context*/, ConstMatrixView<B> x, double factor, MatrixView<B> y,
                    Write write) {
        using T = typename B::Element;
        for (Index i = 0; i < x.size(); ++i) {
            const T old = write == Write::accumulate ? y.data()[i] : T{0};
            y.data()[i] = old + static_cast<T>(factor) * x.data()[i];
        }
    }
};

template <HostBackend B>
struct Kernel<op::ScaleColumns, B> {
    static void run(Context<B>& /*context*/, ConstMatrixView<B> x, ConstVectorView<B> factor,
                    MatrixView<B> y, Write write) {
        using T = typename B::Element;
        for (Index i = 0; i < x.rows(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                const T old = write == Write::accumulate ? y(i, j) : T{0};
                y(i, j) = old + factor[j] * x(i, j);
            }
        }
    }
};

template <HostBackend B>
struct Kernel<op::ScaleColumnsBackward, B> {
    static void run(Context<B>& /*context*/, ConstMatrixView<B> x, ConstVectorView<B> factor,
                    ConstMatrixView<B> dy, MatrixView<B> dx, VectorView<B> dfactor) {
        for (Index i = 0; i < x.rows(); ++i) {
            for (Index j = 0; j < x.columns(); ++j) {
                dfactor[j] += dy(i, j) * x(i, j);
                dx(i, j) = factor[j] * dy(i, j);
            }
        }
    }
};

template <HostBackend B>
struct Kernel<op::Fill, B> {
    static void run(Context<B>& /*context*/, double value, VectorView<B> out) {
        std::fill_n(out.data(), out.size(), static_cast<typename B::Element>(value));
    }
};

}  // namespace mor
