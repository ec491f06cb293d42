// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/ops/rope.hpp>

namespace mor {

template <class T, class Factor>
struct Kernel<op::Rope, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const Index, 1> positions,
                    View<const T, 2> cosine, View<const T, 2> sine, View<T, 2> x,
                    Rotation rotation) {
        using namespace cpu::detail;
        const Index half = cosine.columns();
        const T direction = rotation == Rotation::forward ? T{1} : T{-1};
        const auto grain = grain_rows(x.columns());
        context.backend().parallel_for(x.rows(), grain, [&](Index begin, Index end) {
            for (Index i = begin; i < end; ++i) {
                const T* const c = cosine.row(positions[i]).data();
                const T* const s = sine.row(positions[i]).data();
                for (Index head = 0; head < x.columns(); head += 2 * half) {
                    T* const first = x.row(i).data() + head;
                    T* const second = first + half;
                    for (Index j = 0; j < half; ++j) {
                        const T a = first[j];
                        const T b = second[j];
                        first[j] = a * c[j] - direction * b * s[j];
                        second[j] = b * c[j] + direction * a * s[j];
                    }
                }
            }
        });
    }
};

}  // namespace mor
