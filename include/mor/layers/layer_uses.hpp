// SPDX-License-Identifier: Apache-2.0
//
// Where in the unrolled stack the weights of one layer are used, and what a single use needs.
#pragma once

#include <mor/core/random.hpp>
#include <mor/layers/rotary.hpp>

#include <concepts>
#include <cstddef>
#include <string>
#include <vector>

namespace mor {

/// A layer of the stack, and each place where it runs. A layer that runs more than once is shared.
struct LayerUses {
    struct Use {
        Index layer = 0;         // of the unrolled stack
        bool ends_step = false;  // whether a pass over the shared layers ends with it
    };

    Index physical = 0;
    std::vector<Use> uses = {};

    [[nodiscard]] Index count() const { return std::ssize(uses); }
    [[nodiscard]] bool is_shared() const { return uses.size() > 1; }
    /// Begins the names of the layer's parameters.
    [[nodiscard]] std::string prefix() const {
        return std::string{"model.layers."} + std::to_string(physical) + ".";
    }
    /// The name of what belongs to one use alone.
    [[nodiscard]] std::string name_of(const std::string& name, const Use& use) const {
        return prefix() + name + "." + std::to_string(use.layer);
    }
};

/// What a block is told of one use in one pass.
template <Backend B>
struct LayerInput {
    ConstIndexView<B> positions;  // [rows] original positions
    const Rotary<B>& rotary;
    Index use = 0;  // which of the layer's uses this is
};

/// The same weights for every use.
template <class Layer>
class Shared {
public:
    /// `name` follows the layer's prefix; the arguments are those of Layer after its name.
    template <class... Arguments>
        requires std::constructible_from<Layer, std::string, const Arguments&...>
    Shared(const LayerUses& uses, const std::string& name, const Arguments&... arguments)
        : layer_{uses.prefix() + name, arguments...} {}

    [[nodiscard]] Layer& at(Index /*use*/) { return layer_; }
    [[nodiscard]] const Layer& at(Index /*use*/) const { return layer_; }

    void initialize(Random& random, double deviation) {
        if constexpr (requires { layer_.initialize(random, deviation); }) {
            layer_.initialize(random, deviation);
        }
    }
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        layer_.visit_parameters(visitor);
    }

private:
    Layer layer_;
};

/// Weights of its own for each use: "<prefix><name>" and the number of the unrolled layer.
template <class Layer>
class Unshared {
public:
    template <class... Arguments>
        requires std::constructible_from<Layer, std::string, const Arguments&...>
    Unshared(const LayerUses& uses, const std::string& name, const Arguments&... arguments) {
        for (const LayerUses::Use& use : uses.uses) {
            layers_.emplace_back(uses.name_of(name, use), arguments...);
        }
    }

    [[nodiscard]] Layer& at(Index use) { return layers_[static_cast<std::size_t>(use)]; }
    [[nodiscard]] const Layer& at(Index use) const {
        return layers_[static_cast<std::size_t>(use)];
    }

    void initialize(Random& random, double deviation) {
        for (Layer& layer : layers_) {
            if constexpr (requires { layer.initialize(random, deviation); }) {
                layer.initialize(random, deviation);
            }
        }
    }
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        for (Layer& layer : layers_) {
            layer.visit_parameters(visitor);
        }
    }

private:
    std::vector<Layer> layers_;
};

}  // namespace mor
