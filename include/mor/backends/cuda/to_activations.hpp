// SPDX-License-Identifier: Apache-2.0
//
// What products of the Cuda backend read, where they round it.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/ops/to_activations.hpp>

namespace mor {

template <class T, class S>
struct Kernel<op::ToActivations, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> from, ActivationView<B> to) {
        cuda::round_rows(context.backend().system(), from, to);
    }
};

}  // namespace mor
