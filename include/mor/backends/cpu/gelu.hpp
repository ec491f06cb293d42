// SPDX-License-Identifier: Apache-2.0
//
// GELU of the Cpu backend.
// Only routers use it, on few rows: one thread is enough.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/ops/gelu.hpp>

#include <cmath>
#include <numbers>

namespace mor {

template <class T, class Factor>
struct Kernel<op::Gelu, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 2> x, View<T, 2> y) {
        constexpr T root_half = std::numbers::sqrt2_v<T> / 2;
        for (Index i = 0; i < x.size(); ++i) {
            const T z = x.flat()[i];
            y.flat()[i] = T{0.5} * z * (T{1} + std::erf(z * root_half));
        }
    }
};

// The derivative is Phi(x) + x phi(x), phi the normal density.
template <class T, class Factor>
struct Kernel<op::GeluBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 2> x, View<const T, 2> dy,
                    View<T, 2> dx) {
        constexpr T root_half = std::numbers::sqrt2_v<T> / 2;
        constexpr T peak = std::numbers::inv_sqrtpi_v<T> * root_half;
        for (Index i = 0; i < x.size(); ++i) {
            const T z = x.flat()[i];
            const T distribution = T{0.5} * (T{1} + std::erf(z * root_half));
            dx.flat()[i] = dy.flat()[i] * (distribution + z * peak * std::exp(T{-0.5} * z * z));
        }
    }
};

}  // namespace mor
