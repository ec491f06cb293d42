// SPDX-License-Identifier: Apache-2.0
//
// What waits for each part of the model, and which rows the next call of the shared block takes.
#pragma once

#include <mor/serve/engine_options.hpp>
#include <mor/serve/scheduling.hpp>
#include <mor/serve/sequence.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <vector>

namespace mor::detail {

/// Rows of its next call into the recursion.
[[nodiscard]] inline Index next_rows(const Sequence& sequence, const EngineOptions& options) {
    return std::min(options.prefill_chunk, sequence.num_unprocessed());
}

[[nodiscard]] inline EngineLoad load_of(const Queues& queues, const EngineOptions& options) {
    EngineLoad load{.running = queues.num_running(), .max_batch = options.max_batch};
    for (const auto& sequence : queues.entering) {
        load.entering += next_rows(*sequence, options);
        load.started += sequence->has_begun ? 1 : 0;
    }
    for (const auto& sequence : queues.stepping) {
        load.stepping += sequence->rows_going_on();
    }
    for (const auto& sequence : queues.leaving) {
        load.leaving += std::ssize(sequence->rows);
    }
    load.started += std::ssize(queues.stepping) + std::ssize(queues.leaving);
    return load;
}

[[nodiscard]] inline Index lowest_depth(const Queue& stepping) {
    Index lowest = stepping.front()->depth();
    for (const auto& sequence : stepping) {
        for (const ServedRow& row : sequence->rows) {
            lowest = row.goes_on ? std::min(lowest, row.depth) : lowest;
        }
    }
    return lowest;
}

/// Fills a batch with rows for the shared block, in the order they wait: of any step, or of `depth`
/// alone. Their sequences go to `taken`. Returns whether the last of these has rows that did not
/// fit.
[[nodiscard]] inline bool take_stepping(Queues& queues, bool any_step, Index depth, Index max_batch,
                                        std::vector<ServedRow*>& batch) {
    for (auto at = queues.stepping.begin();
         at != queues.stepping.end() && std::ssize(batch) < max_batch;) {
        const auto sequence = at++;
        const std::size_t before = batch.size();
        bool is_cut = false;
        for (ServedRow& row : (*sequence)->rows) {
            if (row.goes_on && (any_step || row.depth == depth)) {
                is_cut = std::ssize(batch) == max_batch;
                if (is_cut) {
                    break;
                }
                batch.push_back(&row);
            }
        }
        if (batch.size() > before) {
            queues.taken.splice(queues.taken.end(), queues.stepping, sequence);
        }
        if (is_cut) {
            return true;
        }
    }
    return false;
}

}  // namespace mor::detail
