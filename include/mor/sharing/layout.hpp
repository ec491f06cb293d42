// SPDX-License-Identifier: Apache-2.0
//
// Layout: which physical layer runs where. Integers only.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>

#include <cstddef>
#include <string_view>
#include <vector>

namespace mor {

/// The unrolled stack: layers before the recursion, num_steps passes over a block of
/// layers_per_step layers, layers after it. Between two passes `gap` layers may run for every row.
struct Layout {
    std::vector<Index> physical =
        {};                      // [unrolled layers] whose weights each uses, numbered by first use
    Index first_step_layer = 0;  // unrolled layers before the recursion
    Index num_steps = 0;         // recursion steps; 0: nothing to route
    Index layers_per_step = 0;
    Index gap = 0;  // unrouted layers between a step and the next

    [[nodiscard]] Index num_unrolled() const { return static_cast<Index>(physical.size()); }
    [[nodiscard]] Index num_physical() const {
        Index largest = -1;
        for (const Index layer : physical) {
            largest = layer > largest ? layer : largest;
        }
        return largest + 1;
    }
    /// The unrolled layer of a step's slot.
    [[nodiscard]] Index layer_at(Index step, Index slot) const {
        return first_step_layer + step * (layers_per_step + gap) + slot;
    }
    [[nodiscard]] Index end_of_recursion() const {
        return num_steps == 0 ? first_step_layer : layer_at(num_steps - 1, 0) + layers_per_step;
    }
    /// The recursion step of an unrolled layer, or -1 if it belongs to none.
    [[nodiscard]] Index step_of(Index layer) const {
        if (layer < first_step_layer || layer >= end_of_recursion()) {
            return -1;
        }
        const Index offset = layer - first_step_layer;
        return offset % (layers_per_step + gap) < layers_per_step ? offset / (layers_per_step + gap)
                                                                  : -1;
    }
};

namespace detail {

/// How many distinct layers a block of `shared` unrolled layers has when it is used num_recursions
/// times. Throws ConfigError naming the nearest counts that divide; `unshared` layers come on top.
[[nodiscard]] inline Index shared_layers(std::string_view sharing, Index num_layers, Index unshared,
                                         Index num_recursions) {
    check<ConfigError>(num_recursions >= 1, "mor: sharing ", sharing, ": num_recursions is ",
                       num_recursions, ", expected at least 1");
    const Index shared = num_layers - unshared;
    if (shared < num_recursions || shared % num_recursions != 0) {
        const Index below = shared / num_recursions * num_recursions;
        const Index above = (shared < 0 ? 0 : below) + num_recursions;
        if (below >= num_recursions) {
            fail<ConfigError>("mor: sharing ", sharing, " with num_recursions ", num_recursions,
                              " is impossible with num_layers ", num_layers,
                              "; the nearest valid counts are ", below + unshared, " and ",
                              above + unshared);
        }
        fail<ConfigError>("mor: sharing ", sharing, " with num_recursions ", num_recursions,
                          " is impossible with num_layers ", num_layers,
                          "; the nearest valid count is ", num_recursions + unshared);
    }
    return shared / num_recursions;
}

}  // namespace detail
}  // namespace mor
