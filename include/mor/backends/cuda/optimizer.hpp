// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/ops/optimizer.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

template <class T, class S>
struct Kernel<op::AdamW, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const AdamWStep& step, ConstVectorView<B> gradient,
                    VectorView<B> value, VectorView<B> m, VectorView<B> v) {
        const auto scale = static_cast<T>(step.gradient_scale);
        const auto beta1 = static_cast<T>(step.beta1);
        const auto beta2 = static_cast<T>(step.beta2);
        const auto rate = static_cast<T>(step.learning_rate / step.correction1);
        const auto inverse_correction2 = static_cast<T>(1.0 / step.correction2);
        const auto epsilon = static_cast<T>(step.epsilon);
        const auto keep = static_cast<T>(1.0 - step.learning_rate * step.decay);
        context.backend().system().for_each(value.size(), [=] MOR_HOST_DEVICE(Index i) {
            const T g = scale * cuda::in_kernel(gradient)[i];
            const T new_m = beta1 * cuda::in_kernel(m)[i] + (T{1} - beta1) * g;
            const T new_v = beta2 * cuda::in_kernel(v)[i] + (T{1} - beta2) * g * g;
            cuda::in_kernel(m)[i] = new_m;
            cuda::in_kernel(v)[i] = new_v;
            T& weight = cuda::in_kernel(value)[i];
            weight =
                keep * weight - rate * new_m / (std::sqrt(new_v * inverse_correction2) + epsilon);
        });
    }
};

template <class T, class S>
struct Kernel<op::SumOfSquares, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static double run(Context<B>& context, ConstVectorView<B> x) {
        // Blocks of fixed size, so that the sum does not depend on the size of teams much.
        constexpr Index block_size = 16'384;
        const Index blocks = (x.size() + block_size - 1) / block_size;
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto sums = context.arena().template make<double, 1>({blocks});
        context.backend().system().for_each_team(
            blocks, [=] MOR_HOST_DEVICE(typename S::Team & team, Index block) {
                const Index last = std::min(x.size(), (block + 1) * block_size);
                double squares = 0;
                for (Index i = block * block_size + team.rank(); i < last; i += team.size()) {
                    const double value{cuda::in_kernel(x)[i]};
                    squares += value * value;
                }
                const double sum = team.sum(squares);
                if (team.rank() == 0) {
                    cuda::in_kernel(sums)[block] = sum;
                }
            });
        return cuda::detail::sum_on_host(context, sums);
    }
};

}  // namespace mor
