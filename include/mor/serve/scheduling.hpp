// SPDX-License-Identifier: Apache-2.0
//
// Scheduling policies: which part of the model the engine calls next, and when requests join.
#pragma once

#include <mor/core/types.hpp>

#include <concepts>
#include <string_view>

namespace mor {

/// Rows that wait for each part of the model, and the sequences they belong to.
struct EngineLoad {
    Index running = 0;    // sequences that were admitted
    Index started = 0;    // of these, how many had rows in a call since they were admitted
    Index entering = 0;   // rows before the recursion
    Index stepping = 0;   // rows before a recursion step
    Index leaving = 0;    // rows after their last step
    Index max_batch = 1;  // rows that fit into a call
};

/// The next call: the shared block; or what lies around it, the last layers, head and sampling,
/// then embedding and first layers.
enum class NextCall { shared_block, boundary };

/// `admits(load)`: whether a waiting request may join; `next(load)`: what to call, while there is
/// something to do; `mixes_depths`: whether a call of the shared block takes the rows that waited
/// longest, or all of the lowest step.
template <class S>
concept SchedulingPolicy = requires(const EngineLoad& load) {
    { S::name } -> std::convertible_to<std::string_view>;
    { S::mixes_depths } -> std::convertible_to<bool>;
    { S::admits(load) } -> std::same_as<bool>;
    { S::next(load) } -> std::same_as<NextCall>;
};

namespace detail {

template <class S>
consteval bool explain_scheduling() {
    static_assert(SchedulingPolicy<S>,
                  "mor: SchedulingPolicy: a scheduling needs static 'name', 'mixes_depths', 'bool "
                  "admits(const EngineLoad&)' and 'NextCall next(const EngineLoad&)'. See "
                  "docs/concepts/scheduling_policy.md");
    return true;
}

}  // namespace detail

/// Continuous depth-wise batching (Bae et al. 2025, "Relaxed Recursive Transformers", section 4.2):
/// a row that has reached its depth leaves the shared block at once, and a waiting one takes its
/// place. With 2 * max_batch - 1 running sequences or more, one of the two calls is always full.
struct DepthWise {
    static constexpr std::string_view name = "depth_wise";
    static constexpr bool mixes_depths = true;

    static bool admits(const EngineLoad& /*load*/) { return true; }
    static NextCall next(const EngineLoad& load) {
        const Index around = load.entering + load.leaving;
        const bool is_full = load.stepping >= load.max_batch;
        const bool is_better = load.stepping > around && around < load.max_batch;
        return load.stepping > 0 && (is_full || is_better) ? NextCall::shared_block
                                                           : NextCall::boundary;
    }
};

/// Continuous batching of sequences, what other engines do: all rows of a token go through all
/// steps together, and requests join between tokens.
struct SequenceWise {
    static constexpr std::string_view name = "sequence_wise";
    static constexpr bool mixes_depths = false;

    static bool admits(const EngineLoad& load) { return load.running < load.max_batch; }
    static NextCall next(const EngineLoad& load) {
        return load.stepping > 0 ? NextCall::shared_block : NextCall::boundary;
    }
};

/// No continuous batching: a batch is complete before the next begins.
struct StaticBatch : SequenceWise {
    static constexpr std::string_view name = "static_batch";

    static bool admits(const EngineLoad& load) {
        return load.started == 0 && SequenceWise::admits(load);
    }
};

}  // namespace mor
