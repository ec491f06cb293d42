// SPDX-License-Identifier: Apache-2.0
//
// What the host knows of the rows of a pass on a device, so that it need not ask.
#pragma once

#include <mor/ops/rows.hpp>
#include <mor/recursion/step.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <numeric>
#include <span>
#include <vector>

namespace mor::detail {

/// What Rows know on the host.
struct RowsOnHost {
    std::vector<Index> offsets;    // [sequences + 1]
    std::vector<Index> positions;  // [rows]
};

/// Of the rows that take each recursion step.
struct StepRowsOnHost {
    std::vector<Index> entered;  // [rows] 0, 1, ...
    std::vector<Index> counts;   // [sequences] in the current step, if the router says so
    std::vector<Index> kept;     // candidates that take the current step, if the host knows
    struct Step : RowsOnHost {
        std::vector<Index> source;  // which of the entered rows each is
    };
    std::vector<Step> steps;

    void begin(Index num_steps, Index num_rows) {
        steps.resize(static_cast<std::size_t>(num_steps));
        entered.resize(static_cast<std::size_t>(num_rows));
        std::iota(entered.begin(), entered.end(), Index{0});
    }
    /// Before a router is asked.
    void forget_decision() {
        counts.clear();
        kept.clear();
    }
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

/// The candidates `kept` that take a step, as rows. On a device the host knows all of them from a
/// router that says which it kept, and where sequences begin from one that says how many of each;
/// if it must know all, it asks. The result looks at `known`.
template <Backend B>
[[nodiscard]] Rows<B> kept_rows(Context<B>& context, const StepView<B>& view,
                                ConstIndexView<B> kept, bool must_know_all, StepRowsOnHost& known) {
    if (kept.size() == view.num_candidates()) {
        return view.rows;
    }
    auto& own = known.steps[static_cast<std::size_t>(view.step)];
    if constexpr (!HostBackend<B>) {
        // A router may have dropped some after it had said which.
        if (must_know_all && std::ssize(known.kept) != kept.size()) {
            to_host(kept, known.kept);
        }
        if (std::ssize(known.kept) == kept.size() && view.rows.knows_offsets() &&
            view.rows.knows_positions()) {
            return known_rows<B>(context, view.rows, kept, known.kept, own);
        }
    }
    Rows<B> rows = ops::select_rows<B>(context, view.rows, kept);
    const std::vector<Index>& counts = known.counts;
    // A router may have dropped some after it had counted.
    const bool is_counted = std::ssize(counts) == rows.num_sequences() &&
                            std::reduce(counts.begin(), counts.end()) == kept.size();
    if (!rows.knows_offsets() && is_counted) {
        own.offsets.assign(1, 0);
        for (const Index count : counts) {
            own.offsets.push_back(own.offsets.back() + count);
        }
        rows.host_offsets = own.offsets;
    }
    return rows;
}

/// Which of the entered rows the candidates `kept` are, where a device's host knows; else empty.
template <Backend B>
[[nodiscard]] std::span<const Index> known_source(const StepView<B>& view, ConstIndexView<B> kept,
                                                  StepRowsOnHost& known) {
    if (kept.size() == view.num_candidates()) {
        return view.host_source;
    }
    if (HostBackend<B> || !view.knows_source() || std::ssize(known.kept) != kept.size()) {
        return {};
    }
    std::vector<Index>& source = known.steps[static_cast<std::size_t>(view.step)].source;
    source.clear();
    for (const Index candidate : known.kept) {
        source.push_back(view.host_source[static_cast<std::size_t>(candidate)]);
    }
    return source;
}

}  // namespace mor::detail
