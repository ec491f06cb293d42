// SPDX-License-Identifier: Apache-2.0
//
// The sizes of a model: run-time numbers, as a checkpoint has them.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/core/types.hpp>

#include <cmath>
#include <tuple>

namespace mor {

struct ModelConfig {
    Index vocab_size = 256;
    Index hidden_size = 128;
    Index intermediate_size = 384;
    Index num_layers = 8;  // unrolled: what a token that takes every step passes through
    Index num_heads = 4;
    Index num_kv_heads = 2;
    Index head_dim = 32;
    Index max_positions = 2'048;
    double rope_theta = 10'000.0;
    double rms_norm_epsilon = 1e-5;
    double initializer_range = 0.02;  // standard deviation of fresh matrices
    bool tie_embeddings = true;

    static constexpr auto fields() {
        using C = ModelConfig;
        return std::tuple{Field{"vocab_size", &C::vocab_size},
                          Field{"hidden_size", &C::hidden_size},
                          Field{"intermediate_size", &C::intermediate_size},
                          Field{"num_layers", &C::num_layers},
                          Field{"num_heads", &C::num_heads},
                          Field{"num_kv_heads", &C::num_kv_heads},
                          Field{"head_dim", &C::head_dim},
                          Field{"max_positions", &C::max_positions},
                          Field{"rope_theta", &C::rope_theta},
                          Field{"rms_norm_epsilon", &C::rms_norm_epsilon},
                          Field{"initializer_range", &C::initializer_range},
                          Field{"tie_embeddings", &C::tie_embeddings}};
    }
};

/// Throws ConfigError if a size is impossible or two contradict each other.
inline void validate(const ModelConfig& config) {
    // Products of two sizes then count memory without overflow.
    static constexpr Index largest = Index{1} << 28;
    const auto expect_positive = [](std::string_view name, Index value) {
        check<ConfigError>(value > 0, "mor::ModelConfig: ", name, " is ", value,
                           ", expected at least 1");
        check<ConfigError>(value <= largest, "mor::ModelConfig: ", name, " is ", value,
                           ", expected at most ", largest);
    };
    expect_positive("vocab_size", config.vocab_size);
    expect_positive("hidden_size", config.hidden_size);
    expect_positive("intermediate_size", config.intermediate_size);
    expect_positive("num_layers", config.num_layers);
    expect_positive("num_heads", config.num_heads);
    expect_positive("num_kv_heads", config.num_kv_heads);
    expect_positive("head_dim", config.head_dim);
    expect_positive("max_positions", config.max_positions);
    static constexpr Index most_layers = 65'536;
    check<ConfigError>(config.num_layers <= most_layers, "mor::ModelConfig: num_layers is ",
                       config.num_layers, ", expected at most ", most_layers);
    static constexpr Index largest_table = Index{1} << 27;  // of rotary cosines
    check<ConfigError>(config.max_positions <= largest_table / config.head_dim,
                       "mor::ModelConfig: max_positions ", config.max_positions, " times head_dim ",
                       config.head_dim, " is more than ", largest_table);
    check<ConfigError>(config.num_heads % config.num_kv_heads == 0, "mor::ModelConfig: num_heads ",
                       config.num_heads, " is not a multiple of num_kv_heads ",
                       config.num_kv_heads);
    check<ConfigError>(config.head_dim % 2 == 0, "mor::ModelConfig: head_dim is ", config.head_dim,
                       ", expected an even number (rotary embedding turns pairs)");
    check<ConfigError>(config.rope_theta > 0 && std::isfinite(config.rope_theta),
                       "mor::ModelConfig: rope_theta is ", config.rope_theta,
                       ", expected a positive number");
    check<ConfigError>(config.rms_norm_epsilon > 0 && std::isfinite(config.rms_norm_epsilon),
                       "mor::ModelConfig: rms_norm_epsilon is ", config.rms_norm_epsilon,
                       ", expected a positive number");
    check<ConfigError>(config.initializer_range >= 0 && std::isfinite(config.initializer_range),
                       "mor::ModelConfig: initializer_range is ", config.initializer_range,
                       ", expected 0 or more");
}

}  // namespace mor
