// SPDX-License-Identifier: Apache-2.0
//
// A small model to serve, and requests for it.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/model/presets.hpp>
#include <mor/serve/engine.hpp>
#include <mor/testing/random_fill.hpp>

#include <cstdint>
#include <vector>

namespace mor::test {

using ServingBackend = Cpu<float>;

struct Request {
    std::vector<TokenId> prompt;
    RequestOptions options;
};

inline constexpr ModelConfig served_sizes{.vocab_size = 61,
                                          .hidden_size = 32,
                                          .intermediate_size = 48,
                                          .num_layers = 8,
                                          .num_heads = 2,
                                          .num_kv_heads = 1,
                                          .head_dim = 16,
                                          .max_positions = 64,
                                          .initializer_range = 0.2};

template <class A>
[[nodiscard]] ModelConfig served_config() {
    ModelConfig config = served_sizes;
    config.num_layers = std::string_view{A::Sharing::name}.starts_with("middle") ? 5 : 3;
    return config;
}

/// Prompts of 1 to 30 tokens, some of which begin alike, with every way to sample.
[[nodiscard]] inline std::vector<Request> random_requests(std::size_t count, std::uint64_t seed) {
    Random random{seed};
    const auto integer = [&](Index first, Index last) {
        return testing::uniform_integers(random, 1, first, last).front();
    };
    const auto common = testing::uniform_integers<TokenId>(random, 20, 0, 61);
    std::vector<Request> requests;
    for (std::size_t i = 0; i < count; ++i) {
        Request request;
        if (integer(0, 3) == 0) {
            request.prompt = common;
        }
        const auto own = testing::uniform_integers<TokenId>(random, integer(1, 11), 0, 61);
        request.prompt.insert(request.prompt.end(), own.begin(), own.end());
        request.options.max_new_tokens = integer(1, 31);
        request.options.sampling = {.temperature = integer(0, 2) == 0 ? 0.0 : 1.0,
                                    .top_k = integer(0, 2) * 9,
                                    .top_p = integer(0, 2) == 0 ? 1.0 : 0.9,
                                    .min_p = integer(0, 3) == 0 ? 0.05 : 0.0,
                                    .repetition_penalty = integer(0, 3) == 0 ? 1.3 : 1.0,
                                    .seed = static_cast<std::uint64_t>(i)};
        if (integer(0, 4) == 0) {
            request.options.stop_tokens = {3, 17};
        }
        if (integer(0, 4) == 0 || (request.prompt.size() > 20 && integer(0, 2) == 0)) {
            request.options.max_depth = integer(1, 4);
        }
        requests.push_back(request);
    }
    return requests;
}

/// The tokens that were not read yet.
[[nodiscard]] inline std::vector<ServedToken> read_all(RequestHandle& handle) {
    std::vector<ServedToken> tokens;
    while (const auto token = handle.try_next()) {
        tokens.push_back(*token);
    }
    return tokens;
}

}  // namespace mor::test
