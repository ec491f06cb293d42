// SPDX-License-Identifier: Apache-2.0
//
// Limits on the depth of single sequences, whatever their router decides.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/recursion/depth_control.hpp>
#include <mor/recursion/step.hpp>

#include <cstddef>
#include <iterator>
#include <span>
#include <vector>

namespace mor::detail {

/// [rows] 1 for those whose sequence may go no deeper than this step; empty without such limits.
template <Backend B>
[[nodiscard]] ConstIndexView<B> last_steps(Context<B>& context, const DepthControl& depth,
                                           Index step, const Rows<B>& rows) {
    const std::span<const Index> limits = depth.max_depths;
    if (limits.empty()) {
        return {};
    }
    const std::vector<Index> offsets = to_host(rows.offsets);
    std::vector<Index> is_last;
    for (std::size_t s = 0; s < limits.size(); ++s) {
        is_last.resize(static_cast<std::size_t>(offsets[s + 1]),
                       step + 1 >= limits[s] ? Index{1} : Index{0});
    }
    const IndexView<B> view = context.indices(rows.size());
    from_host(view, is_last);
    return view;
}

/// Drops, of the `count` rows that the router kept, those whose sequence has reached its limit:
/// compacts view.kept and view.weight. Returns how many are left.
template <Backend B>
[[nodiscard]] Index limit_sequences(Context<B>& context, const DepthControl& depth,
                                    const StepView<B>& view, Index count) {
    const std::vector<Index> kept = to_host(ConstIndexView<B>{view.kept.slice(0, count)});
    const std::vector<Index> offsets = to_host(view.rows.offsets);
    std::vector<Index> stays;  // which of the kept rows
    std::vector<Index> remaining;
    std::size_t sequence = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        while (kept[i] >= offsets[sequence + 1]) {
            ++sequence;
        }
        if (view.step < depth.max_depths[sequence]) {
            stays.push_back(static_cast<Index>(i));
            remaining.push_back(kept[i]);
        }
    }
    if (stays.size() == kept.size()) {
        return count;
    }
    const Index left = std::ssize(stays);
    from_host(view.kept.slice(0, left), remaining);
    const IndexView<B> which = context.indices(left);
    const MatrixView<B> weight = context.matrix(left, 1);
    from_host(which, stays);
    ops::gather_rows<B>(context, {view.weight.data(), {count, 1}}, which, weight);
    ops::copy<B>(context, weight, {view.weight.data(), {left, 1}});
    return left;
}

}  // namespace mor::detail
