// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/dot_products.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/ops/rms_norm.hpp>

#include <cmath>

namespace mor {

template <class T, class Factor>
struct Kernel<op::RmsNorm, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const T, 1> weight,
                    double epsilon, View<T, 2> y, View<T, 1> inverse_rms, View<T, 2> copy) {
        using namespace cpu::detail;
        const auto width = static_cast<T>(x.columns());
        const auto grain = grain_rows(x.columns());
        context.backend().parallel_for(x.rows(), grain, [&](Index first, Index last) {
            for (Index i = first; i < last; ++i) {
                const auto row = array(x.row(i));
                const T mean_square = dot(x.row(i).data(), x.row(i).data(), x.columns()) / width;
                const T inverse = T{1} / std::sqrt(mean_square + static_cast<T>(epsilon));
                inverse_rms[i] = inverse;
                if (!copy.empty()) {
                    array(copy.row(i)) = row;
                }
                array(y.row(i)) = row * inverse * array(weight);
            }
        });
    }
};

// With n = x * inverse_rms and g = dy * weight: dx = inverse_rms * (g - n * mean(g * n)).
template <class T, class Factor>
struct Kernel<op::RmsNormBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<const T, 1> weight, View<const T, 1> inverse_rms, View<T, 2> dx,
                    View<T, 1> dweight) {
        using namespace cpu::detail;
        const auto width = static_cast<T>(x.columns());
        const auto grain = grain_rows(x.columns());
        context.backend().parallel_for(x.rows(), grain, [&](Index first, Index last) {
            for (Index i = first; i < last; ++i) {
                const auto row = array(x.row(i));
                const auto scaled = array(dy.row(i)) * array(weight);
                const T inverse = inverse_rms[i];
                const T projection = (scaled * row).sum() * inverse * inverse / width;
                array(dx.row(i)) += inverse * (scaled - row * projection);
            }
        });
        // Threads own columns, so that the sum over rows has one order.
        for_parts(context, x.columns(), grain_rows(x.rows()), [&](Index first, Index last) {
            const Index count = last - first;
            auto sum = array(dweight.slice(first, count));
            for (Index i = 0; i < x.rows(); ++i) {
                sum += array(dy.row(i).slice(first, count)) * array(x.row(i).slice(first, count)) *
                       inverse_rms[i];
            }
        });
    }
};

}  // namespace mor
