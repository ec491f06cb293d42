// SPDX-License-Identifier: Apache-2.0
//
// What a router sees before a recursion step, and where it writes its decision.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/rows.hpp>
#include <mor/recursion/loss_terms.hpp>

#include <iterator>
#include <span>
#include <vector>

namespace mor {

/// How decisions may be taken. `look_ahead`: as in training, a decision may depend on later tokens
/// of the sequence (top-k does). `causal`: it may not; the only way to generate.
enum class Decision { look_ahead, causal };

/// One recursion step of one pass. Candidates are the rows that took the step before.
template <Backend B>
struct StepView {
    Index step = 0;
    Index num_steps = 0;
    double capacity = 1;  // the schedule's fraction of each sequence's original rows, in (0, 1]
    Decision decision = Decision::look_ahead;
    Index training_step = 0;            // from 1 on; 0: not training
    bool is_last = false;               // no row will take another step after this one
    ConstIndexView<B> is_last_of = {};  // [candidates] 1: this one will not; empty: as is_last
    Index forced_depth = 0;       // if positive, a router must keep all candidates of earlier steps
    double threshold_offset = 0;  // added to the bound of a causal rule, in logits

    Rows<B> rows = {};              // of the candidates: their sequences and original positions
    Rows<B> entered = {};           // of all rows that entered the recursion
    ConstIndexView<B> source = {};  // [candidates] which of the entered rows each is
    std::span<const Index> host_source = {};  // the same, where a device's host knows; else empty
    ConstMatrixView<B> hidden = {};           // [candidates, hidden]
    // [candidates, hidden] what the candidates were before the previous step; empty in step 0.
    ConstMatrixView<B> previous = {};

    // Written by the router. Kept rows are indices of candidates, ascending; weight i belongs to
    // kept row i, or with GateAtExit to candidate i of step 0. Only some Merges read it.
    IndexView<B> kept = {};     // room for [candidates]
    VectorView<B> weight = {};  // room for [candidates]
    // What a router knows without waiting for a device; another leaves it as it is, empty. May be
    // null.
    std::vector<Index>* host_counts = nullptr;  // [sequences] how many rows of each were kept
    std::vector<Index>* host_kept = nullptr;    // [kept] which

    [[nodiscard]] Index num_candidates() const { return hidden.rows(); }
    /// Of candidates without a candidate, that there are none.
    [[nodiscard]] bool knows_source() const { return std::ssize(host_source) == source.size(); }
    [[nodiscard]] bool must_keep_all() const { return step < forced_depth; }
};

/// What the backward pass hands to a learned router for one step.
template <Backend B>
struct StepGradient {
    ConstVectorView<B> weight;  // [weights written in this step] gradient; may be empty
    MatrixView<B> hidden;       // [candidates, hidden] to add to
    double loss_scale = 1;      // factor on the router's own losses (1 / micro-batches)
    LossTerms<B>* losses;       // where to report them
};

}  // namespace mor
