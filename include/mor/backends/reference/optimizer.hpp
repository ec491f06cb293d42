// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Reference backend.
#pragma once

#include <mor/backends/host/optimizer.hpp>
#include <mor/backends/reference/device.hpp>
#include <mor/ops/optimizer.hpp>

#include <cmath>

namespace mor {

template <class T>
struct Kernel<op::GradientNorms, Reference<T>> {
    using B = Reference<T>;

    static void run(Context<B>& /*context*/, const TensorTable<B>& table, View<double, 1> norms) {
        for (Index group = 0; group < norms.size(); ++group) {
            double sum = 0;
            for (Index i = 0; i < table.tensors().size(); ++i) {
                const TrainedTensor<B>& tensor = table.tensors()[i];
                if (static_cast<Index>(tensor.group) == group) {
                    sum += reference::detail::dot<T>(tensor.gradient, tensor.gradient);
                }
            }
            norms[group] = std::sqrt(sum);
        }
    }
};

template <class T>
struct Kernel<op::AdamW, Reference<T>> {
    using B = Reference<T>;

    static void run(Context<B>& /*context*/, const AdamWRule& rule, View<const AdamWStep, 1> step,
                    View<const double, 1> scales, const TensorTable<B>& table) {
        for (Index i = 0; i < table.tensors().size(); ++i) {
            const TrainedTensor<B>& tensor = table.tensors()[i];
            const double scale = scales[static_cast<Index>(tensor.group)];
            if (!std::isnan(scale)) {
                update(rule, step[0], scale, tensor);
            }
        }
    }

private:
    static void update(const AdamWRule& rule, const AdamWStep& step, double scale,
                       const TrainedTensor<B>& tensor) {
        const double learning_rate = tensor.rate_factor * step.learning_rate;
        for (Index i = 0; i < tensor.value.size(); ++i) {
            const double g = scale * double{tensor.gradient[i]};
            const double m = rule.beta1 * double{tensor.m[i]} + (1.0 - rule.beta1) * g;
            const double v = rule.beta2 * double{tensor.v[i]} + (1.0 - rule.beta2) * g * g;
            const double direction =
                m / step.correction1 / (std::sqrt(v / step.correction2) + rule.epsilon);
            const double old = tensor.value[i];
            tensor.value[i] =
                static_cast<T>(old - learning_rate * (direction + tensor.decay * old));
            tensor.m[i] = static_cast<T>(m);
            tensor.v[i] = static_cast<T>(v);
        }
    }
};

}  // namespace mor
