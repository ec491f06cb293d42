// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/ops/swiglu.hpp>

namespace mor {

template <class T, class Factor>
struct Kernel<op::SwiGlu, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> gate, View<const T, 2> up,
                    View<T, 2> y) {
        using namespace cpu::detail;
        for_parts(context, gate.size(), grain_rows(4), [&](Index first, Index last) {
            transform(
                last - first,
                [](const auto& g, const auto& u) { return (g / (T{1} + (-g).exp()) * u).eval(); },
                y.data() + first, gate.data() + first, up.data() + first);
        });
    }
};

// With s = sigmoid(gate): dup = dy * gate * s, dgate = dy * up * s * (1 + gate * (1 - s)).
template <class T, class Factor>
struct Kernel<op::SwiGluBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> gate, View<const T, 2> up,
                    View<const T, 2> dy, View<T, 2> dgate, View<T, 2> dup) {
        using namespace cpu::detail;
        // Blocks of this size stay in registers and the first cache, and make aliasing safe.
        constexpr Index block_size = 64;
        using Block = Eigen::Array<T, Eigen::Dynamic, 1, 0, block_size, 1>;
        for_parts(context, gate.size(), grain_rows(4), [&](Index first, Index last) {
            for (Index i = first; i < last; i += block_size) {
                const Index count = std::min(block_size, last - i);
                const Block g = array(gate.flat().slice(i, count));
                const Block u = array(up.flat().slice(i, count));
                const Block d = array(dy.flat().slice(i, count));
                const Block s = (T{1} + (-g).exp()).inverse();
                array(dgate.flat().slice(i, count)) = d * u * s * (T{1} + g * (T{1} - s));
                array(dup.flat().slice(i, count)) = d * g * s;
            }
        });
    }
};

}  // namespace mor
