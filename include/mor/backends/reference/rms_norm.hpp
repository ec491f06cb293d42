// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/rms_norm.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

// y = x * r * weight, r = (mean(x^2) + epsilon)^-1/2
template <class T>
struct Kernel<op::RmsNorm, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x, View<const T, 1> weight,
                    double epsilon, View<T, 2> y, View<T, 1> inverse_rms, View<T, 2> copy) {
        const auto width = static_cast<double>(x.columns());
        if (!copy.empty()) {
            std::copy_n(x.data(), x.size(), copy.data());
        }
        for (Index i = 0; i < x.rows(); ++i) {
            const double mean_square = reference::detail::dot<T>(x.row(i), x.row(i)) / width;
            const double r = 1.0 / std::sqrt(mean_square + epsilon);
            inverse_rms[i] = static_cast<T>(r);
            for (Index j = 0; j < x.columns(); ++j) {
                y(i, j) = static_cast<T>(double{x(i, j)} * r * double{weight[j]});
            }
        }
    }
};

// With n = x * r and g = dy * weight:
//   dx += r * (g - n * mean(g * n)),  dweight += sum over rows of dy * n
template <class T>
struct Kernel<op::RmsNormBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> dy, View<const T, 2> x,
                    View<const T, 1> weight, View<const T, 1> inverse_rms, View<T, 2> dx,
                    View<T, 1> dweight) {
        const auto width = static_cast<double>(x.columns());
        for (Index i = 0; i < x.rows(); ++i) {
            const double r = inverse_rms[i];
            const auto g = [&](Index j) { return double{dy(i, j)} * double{weight[j]}; };
            const auto n = [&](Index j) { return double{x(i, j)} * r; };
            double mean = 0;
            for (Index j = 0; j < x.columns(); ++j) {
                mean += g(j) * n(j) / width;
            }
            for (Index j = 0; j < x.columns(); ++j) {
                dx(i, j) += static_cast<T>(r * (g(j) - n(j) * mean));
            }
        }
        for (Index j = 0; j < x.columns(); ++j) {
            double sum = dweight[j];
            for (Index i = 0; i < x.rows(); ++i) {
                sum += double{dy(i, j)} * double{x(i, j)} * double{inverse_rms[i]};
            }
            dweight[j] = static_cast<T>(sum);
        }
    }
};

}  // namespace mor
