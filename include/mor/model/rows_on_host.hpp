// SPDX-License-Identifier: Apache-2.0
//
// What the host knows of the rows of a pass on a device, so that it need not ask.
#pragma once

#include <mor/ops/rows.hpp>
#include <mor/recursion/step.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace mor::detail {

/// What Rows know on the host.
struct RowsOnHost {
    std::vector<Index> offsets;    // [sequences + 1]
    std::vector<Index> positions;  // [rows]
};

/// Of the rows that take each recursion step.
struct StepRowsOnHost {
    std::vector<Index> counts;  // [sequences] in the current step, if the router says so
    std::vector<Index> kept;    // candidates that take the current step
    std::vector<RowsOnHost> steps;

    void begin(Index num_steps) { steps.resize(static_cast<std::size_t>(num_steps)); }
};

/// The rows `kept`, [n], of `rows`, of which the host knows all, and which they are: `numbers`.
/// The result looks at `known`.
template <Backend B>
[[nodiscard]] Rows<B> known_rows(Context<B>& context, const Rows<B>& rows, ConstIndexView<B> kept,
                                 const std::vector<Index>& numbers, RowsOnHost& known) {
    Rows<B> result = ops::select_rows<B>(context, rows, kept);
    if constexpr (!HostBackend<B>) {
        known.offsets.clear();
        known.positions.clear();
        for (const Index bound : rows.host_offsets) {
            known.offsets.push_back(std::lower_bound(numbers.begin(), numbers.end(), bound) -
                                    numbers.begin());
        }
        for (const Index number : numbers) {
            known.positions.push_back(rows.host_positions[static_cast<std::size_t>(number)]);
        }
        result.host_offsets = known.offsets;
        result.host_positions = known.positions;
    }
    return result;
}

/// The candidates `kept` that take a step, as rows. On a device the host knows where sequences
/// begin from a router that says how many of each it kept; if it must know all, it asks. The
/// result looks at `known`.
template <Backend B>
[[nodiscard]] Rows<B> kept_rows(Context<B>& context, const StepView<B>& view,
                                ConstIndexView<B> kept, bool must_know_all, StepRowsOnHost& known) {
    if (kept.size() == view.num_candidates()) {
        return view.rows;
    }
    RowsOnHost& own = known.steps[static_cast<std::size_t>(view.step)];
    if constexpr (!HostBackend<B>) {
        if (must_know_all) {
            to_host(kept, known.kept);
            return known_rows<B>(context, view.rows, kept, known.kept, own);
        }
    }
    Rows<B> rows = ops::select_rows<B>(context, view.rows, kept);
    const std::vector<Index>& counts = known.counts;
    // A router may have dropped some after it had counted.
    const bool is_known = std::ssize(counts) == rows.num_sequences() &&
                          std::reduce(counts.begin(), counts.end()) == kept.size();
    if (!rows.knows_offsets() && is_known) {
        own.offsets.assign(1, 0);
        for (const Index count : counts) {
            own.offsets.push_back(own.offsets.back() + count);
        }
        rows.host_offsets = own.offsets;
    }
    return rows;
}

}  // namespace mor::detail
