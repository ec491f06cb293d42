// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/ops/rope.hpp>

namespace mor {

// (a, b) = (a cos - b sin, b cos + a sin); backward turns by the opposite angle.
template <class T>
struct Kernel<op::Rope, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const Index, 1> positions,
                    View<const T, 2> cosine, View<const T, 2> sine, View<T, 2> x,
                    Rotation rotation) {
        const Index half = cosine.columns();
        for (Index i = 0; i < x.rows(); ++i) {
            for (Index head = 0; head < x.columns(); head += 2 * half) {
                for (Index j = 0; j < half; ++j) {
                    const double c = cosine(positions[i], j);
                    const double s = rotation == Rotation::forward ? sine(positions[i], j)
                                                                   : -sine(positions[i], j);
                    const double a = x(i, head + j);
                    const double b = x(i, head + half + j);
                    x(i, head + j) = static_cast<T>(a * c - b * s);
                    x(i, head + half + j) = static_cast<T>(b * c + a * s);
                }
            }
        }
    }
};

}  // namespace mor
