// SPDX-License-Identifier: Apache-2.0
//
// Copies of the Cuda backend.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/copy.hpp>

namespace mor {

template <class T, class S>
struct Kernel<op::Copy, Cuda<T, S>> {
    using B = Cuda<T, S>;

    template <class X>
    static void run(Context<B>& context, View<const X, 2, typename B::Space> from,
                    View<X, 2, typename B::Space> to) {
        context.backend().system().for_each(from.size(), [=] MOR_KERNEL(Index i) {
            cuda::in_kernel(to.flat())[i] = cuda::in_kernel(from.flat())[i];
        });
    }
};

}  // namespace mor
