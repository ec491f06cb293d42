// SPDX-License-Identifier: Apache-2.0
//
// Text from a model, token by token, with a KV cache and causal routing.
#pragma once

#include <mor/generate/sampler.hpp>
#include <mor/model/model.hpp>

#include <functional>
#include <span>
#include <vector>

namespace mor {

/// A token and the number of recursion steps it took as an input.
struct GeneratedToken {
    TokenId token = 0;
    Index depth = 0;
    bool from_prompt = false;
};

struct GenerateOptions {
    Index max_new_tokens = 128;
    SamplingOptions sampling = {};
    DepthControl depth = {};
    // Called with every token, the prompt's first; return false to stop.
    std::function<bool(const GeneratedToken&)> on_token = {};
};

struct Generated {
    std::vector<GeneratedToken> tokens;  // the prompt's and the new ones
    Index cache_bytes = 0;               // keys and values stored at the end
};

/// Continues a prompt of at least one token until max_new_tokens, the model's max_positions, or
/// the callback says stop. Throws ConfigError if the prompt is empty or an option is impossible,
/// and ShapeError if the prompt does not fit the model.
template <class A, Backend B>
[[nodiscard]] Generated generate(const Model<A, B>& model, Context<B>& context,
                                 std::span<const TokenId> prompt, const GenerateOptions& options) {
    check<ConfigError>(!prompt.empty(), "mor::generate: the prompt is empty");
    check<ConfigError>(options.max_new_tokens >= 0, "mor::generate: max_new_tokens is ",
                       options.max_new_tokens, ", expected 0 or more");
    KeyValueCache<B> cache = model.make_cache(1);
    Trace<A, B> trace;
    Sampler sampler{options.sampling};
    Generated result;
    std::vector<TokenId> input(prompt.begin(), prompt.end());
    const Index room = model.config().max_positions - std::ssize(prompt);
    // One round reads tokens and draws the next; the last new token is read too, for its depth.
    for (Index drawn = 0;; ++drawn) {
        const std::vector<Index> lengths{std::ssize(input)};
        model.extend(context, {input, lengths}, cache, trace,
                     {.logits = Logits::last_rows, .depth = options.depth});
        const std::vector<Index> depths = token_depths(trace);
        for (std::size_t i = 0; i < input.size(); ++i) {
            result.tokens.push_back({input[i], depths[i], drawn == 0});
            if (options.on_token && !options.on_token(result.tokens.back())) {
                result.cache_bytes = cache.bytes_in_use();
                return result;
            }
        }
        result.cache_bytes = cache.bytes_in_use();
        if (drawn == std::min(options.max_new_tokens, room)) {
            return result;
        }
        const std::vector<typename B::Element> logits = to_host(trace.logits);
        input = {sampler.sample(std::span<const typename B::Element>{logits})};
    }
}

/// The same, with scratch memory of its own.
template <class A, Backend B>
[[nodiscard]] Generated generate(const Model<A, B>& model, std::span<const TokenId> prompt,
                                 const GenerateOptions& options) {
    Context<B> context{model.backend()};
    return generate(model, context, prompt, options);
}

}  // namespace mor
