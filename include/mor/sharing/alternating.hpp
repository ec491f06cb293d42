// SPDX-License-Identifier: Apache-2.0
//
// No sharing, but every other layer is a step, which a router may skip: Mixture-of-Depths (Raposo
// et al. 2024).
#pragma once

#include <mor/sharing/concept.hpp>

#include <numeric>
#include <string_view>
#include <tuple>

namespace mor {

class Alternating {
public:
    static constexpr std::string_view name = "alternating";
    static constexpr bool has_steps = true;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit Alternating(const Options& /*options*/ = {}) {}

    /// 0 / 1 / 2 / 3 ..., of which 1, 3, ... are steps. Throws ConfigError for fewer than two.
    [[nodiscard]] Layout layout(Index num_layers) const {
        check<ConfigError>(num_layers >= 2,
                           "mor: sharing alternating is impossible with num_layers ", num_layers,
                           "; the nearest valid count is 2");
        Layout layout{.physical = std::vector<Index>(static_cast<std::size_t>(num_layers)),
                      .first_step_layer = 1,
                      .num_steps = num_layers / 2,
                      .layers_per_step = 1,
                      .gap = 1};
        std::iota(layout.physical.begin(), layout.physical.end(), Index{0});
        return layout;
    }
};
static_assert(SharingPolicy<Alternating>);

}  // namespace mor
