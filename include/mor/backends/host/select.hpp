// SPDX-License-Identifier: Apache-2.0
//
// Selection by integers, the same for every backend in host memory.
#pragma once

#include <mor/ops/select.hpp>

namespace mor {

template <HostBackend B>
struct Kernel<op::SelectAtLeast, B> {
    static Index run(Context<B>& /*context*/, ConstIndexView<B> depth, ConstIndexView<B> rows,
                     Index bound, IndexView<B> kept) {
        Index count = 0;
        for (Index i = 0; i < rows.size(); ++i) {
            if (depth[rows[i]] >= bound) {
                kept[count++] = i;
            }
        }
        return count;
    }
};

template <HostBackend B>
struct Kernel<op::CapacityCounts, B> {
    static void run(Context<B>& /*context*/, ConstIndexView<B> offsets, double capacity,
                    IndexView<B> out) {
        for (Index s = 0; s < out.size(); ++s) {
            out[s] = capacity_count(offsets[s + 1] - offsets[s], capacity);
        }
    }
};

template <HostBackend B>
struct Kernel<op::CountValues, B> {
    static void run(Context<B>& /*context*/, ConstIndexView<B> values, IndexView<B> counts) {
        for (Index i = 0; i < values.size(); ++i) {
            ++counts[values[i]];
        }
    }
};

}  // namespace mor
