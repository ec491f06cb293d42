// SPDX-License-Identifier: Apache-2.0
//
// Optimiser kernels of the Cuda backend: a team a chunk, of whatever tensor.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/optimizer.hpp>

#include <cmath>
#include <limits>

namespace mor {

namespace cuda::detail {

/// The end of a chunk of a tensor of `size` elements.
template <class B>
[[nodiscard]] MOR_HOST_DEVICE Index end_of(const TensorChunk& chunk, Index size) {
    const Index end = chunk.first + TensorTable<B>::chunk_size;
    return end < size ? end : size;
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::GradientNorms, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const TensorTable<B>& table, GroupView<B> norms) {
        const auto& system = context.backend().system();
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto tensors = table.tensors();
        const auto chunks = table.chunks();
        const auto sums = context.arena().template make<double, 1>({chunks.size()});
        system.for_each_team(chunks.size(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
            const TensorChunk chunk = cuda::in_kernel(chunks)[i];
            const View<const T, 1> x =
                cuda::in_kernel(cuda::in_kernel(tensors)[chunk.tensor].gradient);
            const Index end = cuda::detail::end_of<B>(chunk, x.size());
            double squares = 0;
            for (Index j = chunk.first + team.rank(); j < end; j += team.size()) {
                const double element{x[j]};
                squares += element * element;
            }
            const double sum = team.sum(squares);
            if (team.rank() == 0) {
                cuda::in_kernel(sums)[i] = sum;
            }
        });
        system.for_each_team(norms.size(), [=] MOR_KERNEL(typename S::Team & team, Index group) {
            double squares = 0;
            for (Index i = team.rank(); i < chunks.size(); i += team.size()) {
                const Index tensor = cuda::in_kernel(chunks)[i].tensor;
                const auto of = static_cast<Index>(cuda::in_kernel(tensors)[tensor].group);
                squares += of == group ? cuda::in_kernel(sums)[i] : 0.0;
            }
            const double sum = team.sum(squares);
            if (team.rank() == 0) {
                cuda::in_kernel(norms)[group] = std::sqrt(sum);
            }
        });
    }
};

template <class T, class S>
struct Kernel<op::ClipScales, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, double clip, ConstSumView<B> loss, ConstGroupView<B> norms,
                    GroupView<B> scales) {
        context.backend().system().for_each(scales.size(), [=] MOR_KERNEL(Index group) {
            const View<const double, 1> of_groups = cuda::in_kernel(norms);
            bool is_finite = std::isfinite(cuda::in_kernel(loss)[0]);
            for (Index i = 0; i < of_groups.size(); ++i) {
                is_finite = is_finite && std::isfinite(of_groups[i]);
            }
            const double scale = clip / (of_groups[group] + 1e-6);
            const double clipped = scale < 1.0 ? scale : 1.0;
            cuda::in_kernel(scales)[group] =
                is_finite ? clipped : std::numeric_limits<double>::quiet_NaN();
        });
    }
};

template <class T, class S>
struct Kernel<op::AdamW, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const AdamWRule& rule, ConstAdamWStepView<B> step,
                    ConstGroupView<B> scales, const TensorTable<B>& table) {
        const auto beta1 = static_cast<T>(rule.beta1);
        const auto beta2 = static_cast<T>(rule.beta2);
        const auto epsilon = static_cast<T>(rule.epsilon);
        const auto tensors = table.tensors();
        const auto chunks = table.chunks();
        context.backend().system().for_each_team(
            chunks.size(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const TensorChunk chunk = cuda::in_kernel(chunks)[i];
                const TrainedTensor<B> tensor = cuda::in_kernel(tensors)[chunk.tensor];
                const double gradient_scale =
                    cuda::in_kernel(scales)[static_cast<Index>(tensor.group)];
                if (std::isnan(gradient_scale)) {
                    return;
                }
                const AdamWStep numbers = cuda::in_kernel(step)[0];
                const double learning_rate = tensor.rate_factor * numbers.learning_rate;
                const auto scale = static_cast<T>(gradient_scale);
                const auto rate = static_cast<T>(learning_rate / numbers.correction1);
                const auto inverse_correction2 = static_cast<T>(1.0 / numbers.correction2);
                const auto keep = static_cast<T>(1.0 - learning_rate * tensor.decay);
                const View<const T, 1> gradient = cuda::in_kernel(tensor.gradient);
                const View<T, 1> value = cuda::in_kernel(tensor.value);
                const View<T, 1> m = cuda::in_kernel(tensor.m);
                const View<T, 1> v = cuda::in_kernel(tensor.v);
                const Index end = cuda::detail::end_of<B>(chunk, value.size());
                for (Index j = chunk.first + team.rank(); j < end; j += team.size()) {
                    const T g = scale * gradient[j];
                    const T new_m = beta1 * m[j] + (T{1} - beta1) * g;
                    const T new_v = beta2 * v[j] + (T{1} - beta2) * g * g;
                    m[j] = new_m;
                    v[j] = new_v;
                    value[j] = keep * value[j] -
                               rate * new_m / (std::sqrt(new_v * inverse_correction2) + epsilon);
                }
            });
    }
};

}  // namespace mor
