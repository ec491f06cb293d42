// SPDX-License-Identifier: Apache-2.0
//
// Cycle and Middle-Cycle: the whole shared block, again and again (paper, section 2.1). Middle
// keeps a first and a last layer of its own.
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/sharing/concept.hpp>

#include <tuple>

namespace mor {

/// How often the shared layers are used.
struct RecursionOptions {
    Index num_recursions = 3;

    static constexpr auto fields() {
        return std::tuple{Field{"num_recursions", &RecursionOptions::num_recursions}};
    }
};

namespace detail {

/// `edge` own layers, num_recursions times the same layers, `edge` own layers.
[[nodiscard]] inline Layout cycle_layout(std::string_view name, Index num_layers, Index edge,
                                         Index num_recursions) {
    const Index shared = shared_layers(name, num_layers, 2 * edge, num_recursions);
    Layout layout{.first_step_layer = edge, .num_steps = num_recursions, .layers_per_step = shared};
    for (Index layer = 0; layer < num_layers; ++layer) {
        const bool is_last_own = layer >= num_layers - edge;
        layout.physical.push_back(layer < edge  ? layer
                                  : is_last_own ? edge + shared + layer - (num_layers - edge)
                                                : edge + (layer - edge) % shared);
    }
    return layout;
}

}  // namespace detail

class Cycle {
public:
    static constexpr std::string_view name = "cycle";
    static constexpr bool has_steps = true;
    using Options = RecursionOptions;

    explicit Cycle(const Options& options) : options_{options} {}

    /// 0 1 / 0 1 / 0 1
    [[nodiscard]] Layout layout(Index num_layers) const {
        return detail::cycle_layout(name, num_layers, 0, options_.num_recursions);
    }

private:
    Options options_;
};
static_assert(SharingPolicy<Cycle>);

class MiddleCycle {
public:
    static constexpr std::string_view name = "middle_cycle";
    static constexpr bool has_steps = true;
    using Options = RecursionOptions;

    explicit MiddleCycle(const Options& options) : options_{options} {}

    /// 0 / 1 2 / 1 2 / 1 2 / 3
    [[nodiscard]] Layout layout(Index num_layers) const {
        return detail::cycle_layout(name, num_layers, 1, options_.num_recursions);
    }

private:
    Options options_;
};
static_assert(SharingPolicy<MiddleCycle>);

}  // namespace mor
