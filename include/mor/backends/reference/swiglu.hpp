// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/swiglu.hpp>

#include <cmath>

namespace mor {

// y = gate * sigmoid(gate) * up
template <class T>
struct Kernel<op::SwiGlu, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> gate, View<const T, 2> up,
                    View<T, 2> y) {
        for (Index i = 0; i < gate.size(); ++i) {
            const double g = gate.flat()[i];
            const double u = up.flat()[i];
            y.flat()[i] = static_cast<T>(g / (1.0 + std::exp(-g)) * u);
        }
    }
};

// With s = sigmoid(gate): dup = dy * gate * s, dgate = dy * up * s * (1 + gate * (1 - s)).
template <class T>
struct Kernel<op::SwiGluBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> gate, View<const T, 2> up,
                    View<const T, 2> dy, View<T, 2> dgate, View<T, 2> dup) {
        for (Index i = 0; i < gate.size(); ++i) {
            const double g = gate.flat()[i];
            const double u = up.flat()[i];
            const double d = dy.flat()[i];
            const double s = 1.0 / (1.0 + std::exp(-g));
            dgate.flat()[i] = static_cast<T>(d * u * s * (1.0 + g * (1.0 - s)));
            dup.flat()[i] = static_cast<T>(d * g * s);
        }
    }
};

}  // namespace mor
