// SPDX-License-Identifier: Apache-2.0
//
// Copies, the same for every backend in host memory.
#pragma once

#include <mor/ops/copy.hpp>

#include <algorithm>

namespace mor {

template <HostBackend B>
struct Kernel<op::Copy, B> {
    static void run(Context<B>& /*context*/, ConstMatrixView<B> from, MatrixView<B> to) {
        std::copy_n(from.data(), from.size(), to.data());
    }
};

}  // namespace mor
