// SPDX-License-Identifier: Apache-2.0
//
// Whether a cache policy sends every layer where it finds keys, for every row that may ask.
#pragma once

#include <mor/cache/concept.hpp>

#include <string_view>

namespace mor {

/// Which rows pass a router's steps.
enum class StepRows {
    all,     // every row takes every step
    nested,  // rows of a step took the step before
    any      // each step chooses anew
};

/// What is wrong with the layer whose keys and values unrolled layer `layer` attends to; empty if
/// nothing is. A row attends to itself at least, so the other layer must have seen every row that
/// this one sees; if this one replaces its rows' keys there, every row of the pass.
template <CachePolicy C>
[[nodiscard]] std::string_view key_layer_problem(const C& cache, const Layout& layout, Index layer,
                                                 StepRows rows) {
    const Index owner = cache.key_layer(layout, layer);
    if (owner == layer) {
        return {};
    }
    if (owner < 0 || owner > layer) {
        return "a layer reads its own keys or an earlier layer's";
    }
    if (cache.key_layer(layout, owner) != owner) {
        return "a layer whose keys are read computes them itself";
    }
    const Index step = layout.step_of(layer);
    const Index owner_step = layout.step_of(owner);
    const bool owner_saw_all =
        rows == StepRows::all || owner_step < 0 || (owner_step == 0 && shares_first_step<C>);
    if (updates_shared_keys<C> && !owner_saw_all) {
        return "the layer whose keys are replaced has seen every row";
    }
    const bool owner_saw_those =
        step >= 0 && (owner_step == step || (rows == StepRows::nested && owner_step < step));
    return owner_saw_all || owner_saw_those
               ? std::string_view{}
               : "the layer whose keys are read has seen every row that reads them";
}

}  // namespace mor
