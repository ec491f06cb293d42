// SPDX-License-Identifier: Apache-2.0
//
// The sizes of the models that benchmarks measure.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>
#include <mor/model/architecture.hpp>
#include <mor/model/config.hpp>

#include <string>

namespace benchmarks {

using mor::Index;

/// The shapes of SmolLM, and one to try a program with. Throws ConfigError for another name.
[[nodiscard]] inline mor::ModelConfig sizes_of(const std::string& shape) {
    mor::ModelConfig sizes{.vocab_size = 49'152,
                           .hidden_size = 576,
                           .intermediate_size = 1'536,
                           .num_layers = 30,
                           .num_heads = 9,
                           .num_kv_heads = 3,
                           .head_dim = 64,
                           .max_positions = 2'048};
    if (shape == "360M") {
        sizes.hidden_size = 960;
        sizes.intermediate_size = 2'560;
        sizes.num_layers = 32;
        sizes.num_heads = 15;
        sizes.num_kv_heads = 5;
    } else if (shape == "tiny") {
        sizes = {.vocab_size = 96,
                 .hidden_size = 32,
                 .intermediate_size = 48,
                 .num_layers = 8,
                 .num_heads = 2,
                 .num_kv_heads = 1,
                 .head_dim = 16,
                 .max_positions = 64};
    } else {
        mor::check<mor::ConfigError>(shape == "135M", "no shape ", shape,
                                     ", only 135M, 360M and tiny");
    }
    return sizes;
}

/// The shape with as many layers as `num_recursions` equal steps between two unshared layers need,
/// as in the paper.
[[nodiscard]] inline mor::ModelConfig sizes_with_steps(mor::ModelConfig sizes,
                                                       Index num_recursions) {
    while ((sizes.num_layers - 2) % num_recursions != 0) {
        ++sizes.num_layers;
    }
    return sizes;
}

/// A model of that shape: with so many recursions, if its architecture has any.
template <class A>
struct Shape {
    Shape(mor::ModelConfig shape, Index num_recursions) : sizes{shape} {
        if constexpr (A::Sharing::has_steps) {
            options.sharing.num_recursions = num_recursions;
            sizes = sizes_with_steps(shape, num_recursions);
        }
    }

    mor::ModelConfig sizes;
    mor::ArchitectureOptions<A> options = {};
};

}  // namespace benchmarks
