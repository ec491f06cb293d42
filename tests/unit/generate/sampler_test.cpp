// SPDX-License-Identifier: Apache-2.0
#include <mor/generate/sampler.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <vector>

using mor::ConfigError;
using mor::Index;
using mor::NumericError;
using mor::Sampler;
using mor::SamplingOptions;
using mor::TokenId;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<TokenId> draw(const SamplingOptions& options, const std::vector<float>& logits,
                          int count) {
    Sampler sampler{options};
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i) {
        tokens.push_back(sampler.sample(std::span{logits}));
    }
    return tokens;
}

std::set<TokenId> seen(const SamplingOptions& options, const std::vector<float>& logits) {
    const auto tokens = draw(options, logits, 2'000);
    return {tokens.begin(), tokens.end()};
}

/// How often each token was drawn, as a share.
std::vector<double> shares(const SamplingOptions& options, const std::vector<float>& logits) {
    constexpr int count = 40'000;
    std::vector<double> result(logits.size(), 0.0);
    for (const TokenId token : draw(options, logits, count)) {
        result[static_cast<std::size_t>(token)] += 1.0 / count;
    }
    return result;
}

void check_shares(const SamplingOptions& options, const std::vector<float>& logits,
                  const std::vector<double>& expected) {
    const auto actual = shares(options, logits);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(std::abs(actual[i] - expected[i]) < 0.012);
    }
}

}  // namespace

TEST_CASE("temperature 0 takes the largest logit, of equals the lower token") {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const SamplingOptions greedy{.temperature = 0, .seed = seed};
        CHECK(draw(greedy, {0.5F, 3, -1, 2}, 3) == std::vector<TokenId>{1, 1, 1});
        CHECK(draw(greedy, {1, 4, 4, 4}, 1) == std::vector<TokenId>{1});
        CHECK(draw(greedy, {-infinity, -7}, 1) == std::vector<TokenId>{1});
        CHECK(draw(greedy, {-5}, 1) == std::vector<TokenId>{0});
    }
}

TEST_CASE("tokens come as often as softmax says") {
    const std::vector<float> logits{std::log(0.1F), std::log(0.5F), std::log(0.15F),
                                    std::log(0.25F)};
    check_shares({.seed = 1}, logits, {0.1, 0.5, 0.15, 0.25});
    const double norm = 0.01 + 0.25 + 0.0225 + 0.0625;  // temperature 1/2 squares probabilities
    check_shares({.temperature = 0.5, .seed = 2}, logits,
                 {0.01 / norm, 0.25 / norm, 0.0225 / norm, 0.0625 / norm});
    check_shares({.top_k = 2, .seed = 3}, logits, {0, 2.0 / 3, 0, 1.0 / 3});
    check_shares({.top_p = 0.85, .seed = 4}, logits, {0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9});
}

TEST_CASE("shifting all logits changes nothing, however large they are") {
    const SamplingOptions options{.seed = 8};
    CHECK(draw(options, {1, 2, 3}, 50) == draw(options, {1'001, 1'002, 1'003}, 50));
    CHECK(seen(options, {1e30F, 0, -1e30F}) == std::set<TokenId>{0});
}

TEST_CASE("top-k keeps the k likeliest, of equals the lower tokens") {
    const std::vector<float> logits{1, 1.5F, 1, 0.5F, 1};
    CHECK(seen({.top_k = 1}, logits) == std::set<TokenId>{1});
    CHECK(seen({.top_k = 3}, logits) == std::set<TokenId>{0, 1, 2});
    CHECK(seen({.top_k = 0}, logits).size() == 5);
    CHECK(seen({.top_k = 99}, logits).size() == 5);
}

TEST_CASE("top-p keeps the smallest set that reaches it") {
    const std::vector<float> logits{std::log(0.5F), std::log(0.25F), std::log(0.125F),
                                    std::log(0.125F)};
    CHECK(seen({.top_p = 1e-9}, logits) == std::set<TokenId>{0});
    CHECK(seen({.top_p = 0.49}, logits) == std::set<TokenId>{0});
    CHECK(seen({.top_p = 0.51}, logits) == std::set<TokenId>{0, 1});
    CHECK(seen({.top_p = 0.8}, logits) == std::set<TokenId>{0, 1, 2});
    CHECK(seen({.top_p = 1}, logits).size() == 4);
}

TEST_CASE("top-p is taken of what top-k left") {
    const std::vector<float> logits{std::log(0.4F), std::log(0.3F), std::log(0.3F)};
    // Of the first two, 0.4 / 0.7 = 0.57.
    CHECK(seen({.top_k = 2, .top_p = 0.5}, logits) == std::set<TokenId>{0});
    CHECK(seen({.top_k = 2, .top_p = 0.6}, logits) == std::set<TokenId>{0, 1});
}

TEST_CASE("an impossible token, of logit minus infinity, never comes") {
    CHECK(seen({.temperature = 5}, {0, -infinity, 0}) == std::set<TokenId>{0, 2});
}

TEST_CASE("equal seeds draw equal tokens, other seeds others") {
    const std::vector<float> logits(20, 0.0F);
    const auto tokens = draw({.seed = 5}, logits, 50);
    CHECK(draw({.seed = 5}, logits, 50) == tokens);
    CHECK(draw({.seed = 6}, logits, 50) != tokens);
    CHECK(std::set<TokenId>(tokens.begin(), tokens.end()).size() > 5);
}

TEST_CASE("options out of range are refused") {
    const auto make = [](const SamplingOptions& options) { const Sampler sampler{options}; };
    CHECK_THROWS_WITH_AS(make({.temperature = -0.5}),
                         "mor::Sampler: temperature is -0.5, expected 0 or more", ConfigError);
    CHECK_THROWS_AS(make({.temperature = std::nan("")}), ConfigError);
    CHECK_THROWS_WITH_AS(make({.top_k = -1}), "mor::Sampler: top_k is -1, expected 0 or more",
                         ConfigError);
    CHECK_THROWS_WITH_AS(make({.top_p = 0}),
                         "mor::Sampler: top_p is 0, expected a number in (0, 1]", ConfigError);
    CHECK_THROWS_AS(make({.top_p = 1.01}), ConfigError);
    CHECK_THROWS_AS(make({.top_p = std::nan("")}), ConfigError);
}

TEST_CASE("logits from which nothing can be drawn are refused") {
    const float nan = std::nanf("");
    for (const double temperature : {0.0, 1.0}) {
        const SamplingOptions options{.temperature = temperature};
        CHECK_THROWS_AS(draw(options, {nan, 1}, 1), NumericError);
        CHECK_THROWS_AS(draw(options, {1, nan, 2}, 1), NumericError);
        CHECK_THROWS_AS(draw(options, {1, infinity}, 1), NumericError);
        CHECK_THROWS_AS(draw(options, {-infinity, -infinity}, 1), NumericError);
        CHECK_THROWS_AS(draw(options, {}, 1), NumericError);
    }
}
