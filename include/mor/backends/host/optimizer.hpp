// SPDX-License-Identifier: Apache-2.0
//
// Clipping, the same for every backend in host memory.
#pragma once

#include <mor/ops/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace mor {

template <HostBackend B>
struct Kernel<op::ClipScales, B> {
    static void run(Context<B>& /*context*/, double clip, ConstSumView<B> loss,
                    ConstGroupView<B> norms, GroupView<B> scales) {
        bool is_finite = std::isfinite(loss[0]);
        for (Index group = 0; group < norms.size(); ++group) {
            is_finite = is_finite && std::isfinite(norms[group]);
        }
        for (Index group = 0; group < norms.size(); ++group) {
            scales[group] = is_finite ? std::min(1.0, clip / (norms[group] + 1e-6))
                                      : std::numeric_limits<double>::quiet_NaN();
        }
    }
};

}  // namespace mor
