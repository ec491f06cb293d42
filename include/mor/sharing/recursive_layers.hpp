// SPDX-License-Identifier: Apache-2.0
//
// The four ways of the paper to use a few layers several times (section 2.1): in which order, and
// whether the first and the last layer keep weights of their own ("Middle").
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/sharing/concept.hpp>

#include <string_view>
#include <tuple>

namespace mor {

/// How often the shared layers are used.
struct RecursionOptions {
    Index num_recursions = 3;

    static constexpr auto fields() {
        return std::tuple{Field{"num_recursions", &RecursionOptions::num_recursions}};
    }
};

/// Either the whole block again and again, or each of its layers several times in a row.
enum class LayerOrder { cycle, sequence };

/// Whether the first and the last layer are shared like the others.
enum class EdgeLayers { shared, own };

template <LayerOrder order, EdgeLayers edges>
class RecursiveLayers {
    static constexpr bool is_cycle = order == LayerOrder::cycle;
    static constexpr Index edge = edges == EdgeLayers::own ? 1 : 0;

public:
    static constexpr std::string_view name = is_cycle
                                                 ? (edge == 0 ? "cycle" : "middle_cycle")
                                                 : (edge == 0 ? "sequence" : "middle_sequence");
    /// In a sequence no step is a pass over the whole block, so it cannot be routed.
    static constexpr bool has_steps = is_cycle;
    using Options = RecursionOptions;

    explicit RecursiveLayers(const Options& options) : options_{options} {}

    /// Throws ConfigError naming the nearest valid counts if num_layers cannot be divided so.
    [[nodiscard]] Layout layout(Index num_layers) const {
        const Index uses = options_.num_recursions;
        const Index shared = detail::shared_layers(name, num_layers, 2 * edge, uses);
        Layout layout{.first_step_layer = is_cycle ? edge : num_layers,
                      .num_steps = is_cycle ? uses : 0,
                      .layers_per_step = is_cycle ? shared : 0};
        for (Index own = 0; own < edge; ++own) {
            layout.physical.push_back(own);
        }
        for (Index layer = 0; layer < shared * uses; ++layer) {
            layout.physical.push_back(edge + (is_cycle ? layer % shared : layer / uses));
        }
        for (Index own = 0; own < edge; ++own) {
            layout.physical.push_back(edge + shared + own);
        }
        return layout;
    }

private:
    Options options_;
};

/// 0 1 / 0 1 / 0 1
using Cycle = RecursiveLayers<LayerOrder::cycle, EdgeLayers::shared>;
/// 0 / 1 2 / 1 2 / 1 2 / 3
using MiddleCycle = RecursiveLayers<LayerOrder::cycle, EdgeLayers::own>;
/// 0 0 0 1 1 1
using Sequence = RecursiveLayers<LayerOrder::sequence, EdgeLayers::shared>;
/// 0 / 1 1 1 2 2 2 / 3
using MiddleSequence = RecursiveLayers<LayerOrder::sequence, EdgeLayers::own>;

static_assert(SharingPolicy<Cycle> && SharingPolicy<MiddleCycle> && SharingPolicy<Sequence> &&
              SharingPolicy<MiddleSequence>);

}  // namespace mor
