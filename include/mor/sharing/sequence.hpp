// SPDX-License-Identifier: Apache-2.0
//
// Sequence and Middle-Sequence: each shared layer several times in a row (paper, section 2.1).
// No step is a pass over the whole block, so these cannot be routed.
#pragma once

#include <mor/sharing/concept.hpp>
#include <mor/sharing/cycle.hpp>

namespace mor {

namespace detail {

[[nodiscard]] inline Layout sequence_layout(std::string_view name, Index num_layers, Index edge,
                                            Index num_recursions) {
    const Index shared = shared_layers(name, num_layers, 2 * edge, num_recursions);
    Layout layout{.first_step_layer = num_layers};
    for (Index layer = 0; layer < num_layers; ++layer) {
        const bool is_last_own = layer >= num_layers - edge;
        layout.physical.push_back(layer < edge  ? layer
                                  : is_last_own ? edge + shared + layer - (num_layers - edge)
                                                : edge + (layer - edge) / num_recursions);
    }
    return layout;
}

}  // namespace detail

class Sequence {
public:
    static constexpr std::string_view name = "sequence";
    static constexpr bool has_steps = false;
    using Options = RecursionOptions;

    explicit Sequence(const Options& options) : options_{options} {}

    /// 0 0 0 1 1 1
    [[nodiscard]] Layout layout(Index num_layers) const {
        return detail::sequence_layout(name, num_layers, 0, options_.num_recursions);
    }

private:
    Options options_;
};
static_assert(SharingPolicy<Sequence>);

class MiddleSequence {
public:
    static constexpr std::string_view name = "middle_sequence";
    static constexpr bool has_steps = false;
    using Options = RecursionOptions;

    explicit MiddleSequence(const Options& options) : options_{options} {}

    /// 0 / 1 1 1 2 2 2 / 3
    [[nodiscard]] Layout layout(Index num_layers) const {
        return detail::sequence_layout(name, num_layers, 1, options_.num_recursions);
    }

private:
    Options options_;
};
static_assert(SharingPolicy<MiddleSequence>);

}  // namespace mor
