// SPDX-License-Identifier: Apache-2.0
//
// Measurements of a trained model: generation, cache, depths of a passage, router scores.
#pragma once

#include "result.hpp"
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string_view>
#include <vector>

namespace quickstart {

using Backend = mor::Cpu<float>;

/// Continues the prompt; the time includes reading it.
template <class A>
void measure_generation(const mor::Model<A, Backend>& model, std::string_view prompt,
                        std::uint64_t seed, Result& result) {
    constexpr mor::Index new_tokens = 300;
    const auto begin = std::chrono::steady_clock::now();
    auto generated = mor::generate(model, mor::io::to_tokens(prompt),
                                   {.max_new_tokens = new_tokens,
                                    .sampling = {.temperature = 0.7, .top_p = 0.95, .seed = seed}});
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    result.generation = std::move(generated.tokens);
    result.generation_tokens_per_second = static_cast<double>(new_tokens) / elapsed.count();
}

/// Reads `passage` through an empty cache: its depths under causal routing, and what was stored.
template <class A>
void measure_passage(const mor::Model<A, Backend>& model, const std::vector<mor::TokenId>& passage,
                     Result& result) {
    mor::Context<Backend> context{model.backend()};
    auto cache = model.make_cache(1);
    mor::Trace<A, Backend> trace;
    const std::vector<mor::Index> lengths{std::ssize(passage)};
    model.extend(context, {passage, lengths}, cache, trace, {.logits = mor::Logits::last_rows});
    const std::vector<mor::Index> depths = mor::token_depths(trace);
    for (std::size_t i = 0; i < passage.size(); ++i) {
        result.passage.push_back({passage[i], depths[i], true});
    }
    const auto tokens = static_cast<double>(passage.size());
    const auto bytes = static_cast<double>(cache.bytes_in_use());
    result.cache_bytes_per_token = bytes / tokens;
    const mor::ModelConfig& config = model.config();
    const double layer_bytes =
        tokens * static_cast<double>(config.num_kv_heads * config.head_dim * 2) * sizeof(float);
    const mor::Layout& layout = model.layout();
    if constexpr (!mor::keeps_every_token<typename A::Router>) {
        const auto in_recursion = static_cast<double>(layout.num_steps * layout.layers_per_step);
        const double outside = static_cast<double>(layout.num_unrolled()) - in_recursion;
        result.recursion_cache_share =
            (bytes - outside * layer_bytes) / (in_recursion * layer_bytes);
        const auto steps = static_cast<double>(layout.num_steps);
        result.formula_share = (steps + 1) / (2 * steps);
    }
}

/// Histograms of expert-choice scores, selected by training's top-k or not. Steps that keep every
/// candidate are left out.
inline void measure_scores(const mor::Model<mor::MoRExpert<>, Backend>& model,
                           const mor::WindowBatch& batch, Result& result) {
    constexpr mor::Index bins = 40;
    mor::Context<Backend> context{model.backend()};
    mor::Trace<mor::MoRExpert<>, Backend> trace;
    model.forward(context, {batch.tokens, batch.lengths}, {.decision = mor::Decision::look_ahead},
                  trace);
    for (const auto& step : trace.steps) {
        const auto scores =
            trace.router.steps[static_cast<std::size_t>(step.view.step)].scores.flat();
        if (step.kept.size() == scores.size()) {
            continue;
        }
        const auto [low, high] = std::minmax_element(scores.data(), scores.data() + scores.size());
        const double first = *low;
        const double width = std::max(1e-6, (static_cast<double>(*high) - first) / bins);
        ScoreHistogram histogram{.step = step.view.step,
                                 .edges = {},
                                 .selected = std::vector<mor::Index>(bins, 0),
                                 .unselected = std::vector<mor::Index>(bins, 0)};
        for (mor::Index edge = 0; edge <= bins; ++edge) {
            histogram.edges.push_back(first + width * static_cast<double>(edge));
        }
        mor::Index next = 0;
        for (mor::Index i = 0; i < scores.size(); ++i) {
            const bool selected = next < step.kept.size() && step.kept[next] == i;
            next += selected ? 1 : 0;
            const auto bin =
                static_cast<mor::Index>((static_cast<double>(scores[i]) - first) / width);
            auto& counts = selected ? histogram.selected : histogram.unselected;
            ++counts[static_cast<std::size_t>(std::clamp<mor::Index>(bin, 0, bins - 1))];
        }
        result.scores.push_back(std::move(histogram));
    }
}

}  // namespace quickstart
