// SPDX-License-Identifier: Apache-2.0
//
// Observers: watching a pass from outside. An observer is called with what it can be called with;
// the compiler removes the rest, so that nobody pays for what is not watched.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/rows.hpp>
#include <mor/recursion/step.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace mor {

/// The embeddings, before any layer.
template <Backend B>
struct EmbeddingSeen {
    ConstMatrixView<B> hidden;  // [rows, hidden]
};

/// An unrolled layer that has run.
template <Backend B>
struct LayerSeen {
    Index layer = 0;
    Index step = -1;            // of the recursion, or -1
    const Rows<B>& rows;        // that passed through it
    ConstMatrixView<B> hidden;  // [rows, hidden] after it
    Index visible_keys = 0;     // (query, key) pairs that its attention saw
    Index key_bytes = 0;        // of the keys and values that it stored
};

/// A recursion step that is over.
template <Backend B>
struct StepSeen {
    const StepView<B>& view;    // what the router saw
    ConstIndexView<B> kept;     // candidates that took the step
    ConstIndexView<B> active;   // the same as rows of the recursion's input
    ConstVectorView<B> weight;  // of the kept rows; read it if the router's Merge uses weights
    ConstMatrixView<B> hidden;  // [rows, hidden] the whole stream after it
    // What the router scored for this step, before any gate: [candidates, 1] of expert-choice, all
    // depths [rows, steps] of token-choice in step 0, [kept, 1] of halting; else empty.
    ConstMatrixView<B> scores = {};
};

/// A part of a recursion step; each comes once, but gathering twice: what the router sees, then
/// what the block gets.
enum class StepPhase { gather, select, compact, block, merge };
inline constexpr std::size_t num_step_phases = 5;

/// A part of a recursion step that is over, for measuring where the time goes.
template <Backend B>
struct PhaseSeen {
    Index step = 0;
    StepPhase phase = StepPhase::gather;
};

/// The recursion is over and its result merged. Only if the model has recursion steps.
template <Backend B>
struct RecursionSeen {
    ConstMatrixView<B> hidden;  // [rows, hidden]
};

/// Watches nothing.
struct NoObserver {};

/// Can be called with at least one of the above, or is NoObserver.
template <class O, class B>
concept ObserverPolicy =
    std::same_as<std::remove_cvref_t<O>, NoObserver> ||
    std::invocable<O&, const EmbeddingSeen<B>&> || std::invocable<O&, const LayerSeen<B>&> ||
    std::invocable<O&, const StepSeen<B>&> || std::invocable<O&, const PhaseSeen<B>&> ||
    std::invocable<O&, const RecursionSeen<B>&>;

namespace detail {

template <class O, class B>
consteval void explain_observer() {
    static_assert(
        ObserverPolicy<O, B>,
        "mor: ObserverPolicy: an observer must be callable with EmbeddingSeen, LayerSeen, "
        "StepSeen, PhaseSeen or RecursionSeen of the model's backend");
}

}  // namespace detail
}  // namespace mor
