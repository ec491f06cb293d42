// SPDX-License-Identifier: Apache-2.0
//
// GELU of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/gelu.hpp>

#include <cmath>
#include <numbers>

namespace mor {

template <class T>
struct Kernel<op::Gelu, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x, View<T, 2> y) {
        for (Index i = 0; i < x.size(); ++i) {
            const double z = x.flat()[i];
            y.flat()[i] = static_cast<T>(0.5 * z * (1.0 + std::erf(z / std::numbers::sqrt2)));
        }
    }
};

// The derivative is Phi(x) + x phi(x), phi the normal density.
template <class T>
struct Kernel<op::GeluBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x, View<const T, 2> dy,
                    View<T, 2> dx) {
        for (Index i = 0; i < x.size(); ++i) {
            const double z = x.flat()[i];
            const double distribution = 0.5 * (1.0 + std::erf(z / std::numbers::sqrt2));
            const double density =
                std::exp(-0.5 * z * z) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
            dx.flat()[i] = static_cast<T>(double{dy.flat()[i]} * (distribution + z * density));
        }
    }
};

}  // namespace mor
