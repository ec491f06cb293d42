// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/optimizer.hpp>

#include <cmath>

namespace mor {

template <class T>
struct Kernel<op::AdamW, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, const AdamWStep& step,
                    View<const T, 1> gradient, View<T, 1> value, View<T, 1> m, View<T, 1> v) {
        for (Index i = 0; i < value.size(); ++i) {
            const double g = step.gradient_scale * double{gradient[i]};
            const double new_m = step.beta1 * double{m[i]} + (1.0 - step.beta1) * g;
            const double new_v = step.beta2 * double{v[i]} + (1.0 - step.beta2) * g * g;
            const double direction =
                new_m / step.correction1 / (std::sqrt(new_v / step.correction2) + step.epsilon);
            const double old = value[i];
            value[i] = static_cast<T>(old - step.learning_rate * (direction + step.decay * old));
            m[i] = static_cast<T>(new_m);
            v[i] = static_cast<T>(new_v);
        }
    }
};

template <class T>
struct Kernel<op::SumOfSquares, Reference<T>> {
    static double run(Context<Reference<T>>& /*context*/, View<const T, 1> x) {
        return reference::detail::dot<T>(x, x);
    }
};

}  // namespace mor
