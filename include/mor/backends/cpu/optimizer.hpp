// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/ops/optimizer.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

template <class T, class Factor>
struct Kernel<op::AdamW, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, const AdamWStep& step,
                    View<const T, 1> gradient, View<T, 1> value, View<T, 1> m, View<T, 1> v) {
        const auto scale = static_cast<T>(step.gradient_scale);
        const auto beta1 = static_cast<T>(step.beta1);
        const auto beta2 = static_cast<T>(step.beta2);
        const auto rate = static_cast<T>(step.learning_rate / step.correction1);
        const auto inverse_correction2 = static_cast<T>(1.0 / step.correction2);
        const auto epsilon = static_cast<T>(step.epsilon);
        const auto keep = static_cast<T>(1.0 - step.learning_rate * step.decay);
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

template <class T, class Factor>
struct Kernel<op::SumOfSquares, Cpu<T, Factor>> {
    static double run(Context<Cpu<T, Factor>>& context, View<const T, 1> x) {
        // Blocks of fixed size, so that the sum does not depend on the number of threads.
        constexpr Index block_size = 16'384;
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

}  // namespace mor
