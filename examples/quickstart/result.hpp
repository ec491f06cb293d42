// SPDX-License-Identifier: Apache-2.0
//
// What the quickstart learns about one model, as a table row and as JSON for the report.
#pragma once

#include <mor/mor.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace quickstart {

/// How one step's router scored the tokens it kept and those it did not, as a histogram.
struct ScoreHistogram {
    mor::Index step = 0;
    std::vector<double> edges;  // [bins + 1]
    std::vector<mor::Index> selected;
    std::vector<mor::Index> unselected;
};

struct Result {
    std::string name = {};
    std::string description = {};
    mor::Index unique_parameters = 0;
    mor::Index effective_layers = 0;
    double training_flops = 0;
    double training_tokens = 0;
    double training_seconds = 0;
    double bits_per_byte = 0;                             // held out, causal routing
    std::optional<double> bits_per_byte_look_ahead = {};  // with training's top-k
    double generation_tokens_per_second = 0;
    double cache_bytes_per_token = 0;
    double recursion_cache_share = 1;          // of the recursion's layers, against every token
    std::optional<double> formula_share = {};  // (Nr + 1) / (2 Nr)
    nlohmann::json curve = nlohmann::json::array();
    nlohmann::json held_out_curve = nlohmann::json::array();
    nlohmann::json active_share = nlohmann::json::array();
    std::vector<mor::GeneratedToken> generation = {};
    std::vector<mor::GeneratedToken> passage = {};
    std::vector<ScoreHistogram> scores = {};
};

[[nodiscard]] inline nlohmann::json to_json(const std::vector<mor::GeneratedToken>& tokens) {
    auto json = nlohmann::json::array();
    for (const mor::GeneratedToken& token : tokens) {
        const bool ascii = token.token < 128;
        json.push_back({{"text", std::string(1, ascii ? static_cast<char>(token.token) : '?')},
                        {"depth", token.depth},
                        {"from_prompt", token.from_prompt}});
    }
    return json;
}

[[nodiscard]] inline nlohmann::json to_json(const Result& result) {
    const auto optional = [](const std::optional<double>& value) {
        return value ? nlohmann::json(*value) : nlohmann::json();
    };
    nlohmann::json json{
        {"name", result.name},
        {"description", result.description},
        {"unique_parameters", result.unique_parameters},
        {"effective_layers", result.effective_layers},
        {"training_flops", result.training_flops},
        {"training_tokens", result.training_tokens},
        {"training_seconds", result.training_seconds},
        {"held_out_bits_per_byte", result.bits_per_byte},
        {"held_out_bits_per_byte_look_ahead", optional(result.bits_per_byte_look_ahead)},
        {"training_tokens_per_second", result.training_tokens / result.training_seconds},
        {"generation_tokens_per_second", result.generation_tokens_per_second},
        {"kv_bytes_per_token", result.cache_bytes_per_token},
        {"kv_share_measured", result.recursion_cache_share},
        {"kv_share_formula", optional(result.formula_share)},
        {"curve", result.curve},
        {"held_out_curve", result.held_out_curve},
        {"active_share", result.active_share},
        {"generation", to_json(result.generation)},
        {"passage", to_json(result.passage)},
        {"router_scores", nullptr}};
    for (const ScoreHistogram& scores : result.scores) {
        json["router_scores"].push_back({{"step", scores.step},
                                         {"edges", scores.edges},
                                         {"selected", scores.selected},
                                         {"unselected", scores.unselected}});
    }
    return json;
}

}  // namespace quickstart
