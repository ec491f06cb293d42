// SPDX-License-Identifier: Apache-2.0
//
// Conformance of a scheduling policy: what an engine answers under it, and that it answers at all.
#pragma once

#include <mor/model/presets.hpp>
#include <mor/serve/engine.hpp>
#include <mor/testing/conformance.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace mor::testing {

/// Serves requests to a small model on B under S, all at once and one at a time.
template <SchedulingPolicy S, Backend B>
[[nodiscard]] Violations check_scheduling(B& backend) {
    Violations violations;
    using A = MoRToken<Cycle>;
    const Model<A, B> model{backend, detail::small_sizes, {}, 1};
    Random random{1};
    std::vector<std::vector<TokenId>> prompts;
    for (Index length = 1; length < 12; ++length) {
        prompts.push_back(uniform_integers<TokenId>(random, length, 0, 17));
    }
    const auto answers = [&](std::size_t together) {
        std::vector<std::vector<ServedToken>> found;
        for (std::size_t first = 0; first < prompts.size(); first += together) {
            Index largest = 0;
            Engine<A, B, S> engine{model, {.max_batch = 4, .on_call = [&](const EngineCall& call) {
                                               largest = std::max(largest, call.rows);
                                           }}};
            std::vector<RequestHandle> handles;
            for (std::size_t i = first; i < std::min(first + together, prompts.size()); ++i) {
                handles.push_back(engine.submit(prompts[i], {.max_new_tokens = 4}));
            }
            constexpr int more_than_enough = 10'000;
            for (int i = 0; i < more_than_enough && engine.step(); ++i) {
            }
            for (RequestHandle& handle : handles) {
                detail::require(violations, handle.finish() == Finish::length,
                                "every request is answered");
                found.emplace_back();
                while (const auto token = handle.try_next()) {
                    found.back().push_back(*token);
                }
            }
            detail::require(violations, largest <= 4, "a call has at most max_batch rows");
        }
        return found;
    };
    detail::require(violations, answers(prompts.size()) == answers(1),
                    "an answer does not depend on what else is served");
    return violations;
}

}  // namespace mor::testing
