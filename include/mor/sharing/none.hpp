// SPDX-License-Identifier: Apache-2.0
//
// No sharing: the vanilla transformer.
#pragma once

#include <mor/sharing/concept.hpp>

#include <numeric>
#include <tuple>

namespace mor {

class NoSharing {
public:
    static constexpr std::string_view name = "none";
    static constexpr bool has_steps = false;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit NoSharing(const Options& /*options*/ = {}) {}

    /// 0 1 2 3 ... Throws ConfigError if there is no layer.
    [[nodiscard]] Layout layout(Index num_layers) const {
        check<ConfigError>(num_layers >= 1, "mor: sharing none is impossible with num_layers ",
                           num_layers, "; the nearest valid count is 1");
        Layout layout{.physical = std::vector<Index>(static_cast<std::size_t>(num_layers)),
                      .first_step_layer = num_layers};
        std::iota(layout.physical.begin(), layout.physical.end(), Index{0});
        return layout;
    }
};
static_assert(SharingPolicy<NoSharing>);

}  // namespace mor
