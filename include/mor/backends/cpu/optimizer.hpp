// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/backends/host/optimizer.hpp>
#include <mor/ops/optimizer.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

template <class T, class Factor>
struct Kernel<op::GradientNorms, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;

    static void run(Context<B>& context, const TensorTable<B>& table, View<double, 1> norms) {
        for (Index group = 0; group < norms.size(); ++group) {
            double sum = 0;
            for (Index i = 0; i < table.tensors().size(); ++i) {
                const TrainedTensor<B>& tensor = table.tensors()[i];
                if (static_cast<Index>(tensor.group) == group) {
                    sum += sum_of_squares(context, tensor.gradient);
                }
            }
            norms[group] = std::sqrt(sum);
        }
    }

private:
    static double sum_of_squares(Context<B>& context, View<const T, 1> x) {
        // Blocks of fixed size, so that the sum does not depend on the number of threads.
        constexpr Index block_size = TensorTable<B>::chunk_size;
        const Index blocks = (x.size() + block_size - 1) / block_size;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto sums = context.arena().template make<double, 1>({blocks});
        context.backend().parallel_for(blocks, 1, [&](Index first, Index last) {
            for (Index b = first; b < last; ++b) {
                const Index begin = b * block_size;
                const auto piece = x.slice(begin, std::min(block_size, x.size() - begin));
                sums[b] = cpu::detail::array(piece).template cast<double>().square().sum();
            }
        });
        double sum = 0;
        for (Index b = 0; b < blocks; ++b) {
            sum += sums[b];
        }
        return sum;
    }
};

template <class T, class Factor>
struct Kernel<op::AdamW, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;

    static void run(Context<B>& context, const AdamWRule& rule, View<const AdamWStep, 1> step,
                    View<const double, 1> scales, const TensorTable<B>& table) {
        for (Index i = 0; i < table.tensors().size(); ++i) {
            const TrainedTensor<B>& tensor = table.tensors()[i];
            const double scale = scales[static_cast<Index>(tensor.group)];
            if (!std::isnan(scale)) {
                update(context, rule, step[0], scale, tensor);
            }
        }
    }

private:
    static void update(Context<B>& context, const AdamWRule& rule, const AdamWStep& step,
                       double gradient_scale, const TrainedTensor<B>& tensor) {
        const double learning_rate = tensor.rate_factor * step.learning_rate;
        const auto scale = static_cast<T>(gradient_scale);
        const auto beta1 = static_cast<T>(rule.beta1);
        const auto beta2 = static_cast<T>(rule.beta2);
        const auto rate = static_cast<T>(learning_rate / step.correction1);
        const auto inverse_correction2 = static_cast<T>(1.0 / step.correction2);
        const auto epsilon = static_cast<T>(rule.epsilon);
        const auto keep = static_cast<T>(1.0 - learning_rate * tensor.decay);
        const View<const T, 1> gradient = tensor.gradient;
        const View<T, 1> value = tensor.value;
        const View<T, 1> m = tensor.m;
        const View<T, 1> v = tensor.v;
        using namespace cpu::detail;
        for_parts(context, value.size(), grain_rows(1), [&](Index first, Index last) {
            for (Index i = first; i < last; ++i) {
                const T g = scale * gradient[i];
                m[i] = beta1 * m[i] + (T{1} - beta1) * g;
                v[i] = beta2 * v[i] + (T{1} - beta2) * g * g;
                value[i] = keep * value[i] -
                           rate * m[i] / (std::sqrt(v[i] * inverse_correction2) + epsilon);
            }
        });
    }
};

}  // namespace mor
