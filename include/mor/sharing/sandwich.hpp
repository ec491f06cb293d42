// SPDX-License-Identifier: Apache-2.0
//
// A prelude and a coda of several layers around a recurrent core: Middle-Cycle, widened (Geiping et
// al. 2025, section 3.1).
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/sharing/concept.hpp>

#include <string_view>
#include <tuple>

namespace mor {

class Sandwich {
public:
    static constexpr std::string_view name = "sandwich";
    static constexpr bool has_steps = true;
    struct Options {
        Index prelude = 2;  // layers of their own before the core
        Index coda = 2;     // and after it
        Index num_recursions = 3;

        static constexpr auto fields() {
            return std::tuple{Field{"prelude", &Options::prelude}, Field{"coda", &Options::coda},
                              Field{"num_recursions", &Options::num_recursions}};
        }
    };

    /// Throws ConfigError if prelude or coda is negative.
    explicit Sandwich(const Options& options) : options_{options} {
        check<ConfigError>(options.prelude >= 0 && options.coda >= 0,
                           "mor::Sandwich: prelude and coda are ", options.prelude, " and ",
                           options.coda, ", expected 0 or more");
    }

    /// 0 1 / 2 3 / 2 3 / 2 3 / 4 5. Throws ConfigError naming the nearest valid counts.
    [[nodiscard]] Layout layout(Index num_layers) const {
        const auto [prelude, coda, uses] = options_;
        const Index core = detail::shared_layers(name, num_layers, prelude + coda, uses);
        Layout layout{.first_step_layer = prelude, .num_steps = uses, .layers_per_step = core};
        for (Index layer = 0; layer < prelude; ++layer) {
            layout.physical.push_back(layer);
        }
        for (Index layer = 0; layer < core * uses; ++layer) {
            layout.physical.push_back(prelude + layer % core);
        }
        for (Index layer = 0; layer < coda; ++layer) {
            layout.physical.push_back(prelude + core + layer);
        }
        return layout;
    }

private:
    Options options_;
};
static_assert(SharingPolicy<Sandwich>);

}  // namespace mor
