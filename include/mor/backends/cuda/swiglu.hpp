// SPDX-License-Identifier: Apache-2.0
//
// SwiGLU of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/ops/swiglu.hpp>

#include <cmath>

namespace mor {

// y = gate * sigmoid(gate) * up
template <class T, class S>
struct Kernel<op::SwiGlu, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class Gate, class Up, class Y>
    static void run(Context<B>& context, Gate gate, Up up, Y y) {
        context.backend().system().for_each(gate.size(), [=] MOR_KERNEL(Index i) {
            const T g = cuda::widened(cuda::in_kernel(gate.flat())[i]);
            const T u = cuda::widened(cuda::in_kernel(up.flat())[i]);
            cuda::in_kernel(y.flat())[i] =
                cuda::rounded_to<typename Y::Number>(g / (T{1} + std::exp(-g)) * u);
        });
    }
};

// With s = sigmoid(gate): dup = dy * gate * s, dgate = dy * up * s * (1 + gate * (1 - s)).
template <class T, class S>
struct Kernel<op::SwiGluBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class Gate, class Up, class DY, class DGate, class DUp>
    static void run(Context<B>& context, Gate gate, Up up, DY dy, DGate dgate, DUp dup) {
        context.backend().system().for_each(gate.size(), [=] MOR_KERNEL(Index i) {
            const T g = cuda::widened(cuda::in_kernel(gate.flat())[i]);
            const T u = cuda::widened(cuda::in_kernel(up.flat())[i]);
            const T d = cuda::widened(cuda::in_kernel(dy.flat())[i]);
            const T s = T{1} / (T{1} + std::exp(-g));
            cuda::in_kernel(dgate.flat())[i] =
                cuda::rounded_to<typename DGate::Number>(d * u * s * (T{1} + g * (T{1} - s)));
            cuda::in_kernel(dup.flat())[i] = cuda::rounded_to<typename DUp::Number>(d * g * s);
        });
    }
};

}  // namespace mor
