// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/ops/rms_norm.hpp>

#include <cmath>

namespace mor {

namespace cuda::detail {

/// dy[i, j] * x[i, j] * inverse_rms[i]
template <class B>
struct NormWeightGradient {
    ConstMatrixView<B> dy;
    ConstMatrixView<B> x;
    ConstVectorView<B> inverse_rms;

    MOR_HOST_DEVICE typename B::Element operator()(Index i, Index j) const {
        return in_kernel(dy)(i, j) * in_kernel(x)(i, j) * in_kernel(inverse_rms)[i];
    }
};

}  // namespace cuda::detail

// y = x * r * weight, r = (mean(x^2) + epsilon)^-1/2
template <class T, class S>
struct Kernel<op::RmsNorm, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class Y>
    static void run(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> weight,
                    double epsilon, View<Y, 2, typename B::Space> y, VectorView<B> inverse_rms,
                    MatrixView<B> copy) {
        const auto smallest = static_cast<T>(epsilon);
        const bool copies = !copy.empty();
        context.backend().system().for_each_team(
            x.rows(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const View<const T, 1> row = cuda::in_kernel(x.row(i));
                T squares{0};
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    squares += row[j] * row[j];
                }
                const T mean = team.sum(squares) / static_cast<T>(row.size());
                const T inverse = T{1} / std::sqrt(mean + smallest);
                if (team.rank() == 0) {
                    cuda::in_kernel(inverse_rms)[i] = inverse;
                }
                // y may be x: every thread reads only elements that it then writes itself.
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    const T number = row[j];
                    if (copies) {
                        cuda::in_kernel(copy)(i, j) = number;
                    }
                    cuda::in_kernel(y)(i, j) =
                        cuda::rounded_to<Y>(number * inverse * cuda::in_kernel(weight)[j]);
                }
            });
    }
};

// With n = x * r and g = dy * weight:
//   dx += r * (g - n * mean(g * n)),  dweight += sum over rows of dy * n
template <class T, class S>
struct Kernel<op::RmsNormBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> dy, ConstMatrixView<B> x,
                    ConstVectorView<B> weight, ConstVectorView<B> inverse_rms, MatrixView<B> dx,
                    VectorView<B> dweight) {
        using Term = cuda::detail::NormWeightGradient<B>;
        cuda::detail::add_column_sums(context, x.rows(), Term{dy, x, inverse_rms}, dweight);
        context.backend().system().for_each_team(
            x.rows(), [=] MOR_KERNEL(typename S::Team & team, Index i) {
                const View<const T, 1> row = cuda::in_kernel(x.row(i));
                const View<const T, 1> upstream = cuda::in_kernel(dy.row(i));
                const View<const T, 1> scale = cuda::in_kernel(weight);
                const T r = cuda::in_kernel(inverse_rms)[i];
                T sum{0};
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    sum += upstream[j] * scale[j] * row[j];
                }
                const T projection = team.sum(sum) * r * r / static_cast<T>(row.size());
                for (Index j = team.rank(); j < row.size(); j += team.size()) {
                    cuda::in_kernel(dx)(i, j) += r * (upstream[j] * scale[j] - row[j] * projection);
                }
            });
    }
};

}  // namespace mor
