// SPDX-License-Identifier: Apache-2.0
#include <mor/generate/sampler.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
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

/// What the options leave to draw from, the slow way: everything sorted.
struct Slow {
    std::vector<TokenId> order;     // what top-k and min-p leave, likeliest first
    std::vector<double> weights;    // by token
    std::vector<std::size_t> rank;  // by token: its place in the order, or the number of tokens
    std::size_t nucleus = 0;        // of the order: what top-p leaves

    /// The quantile in the middle of a token's share, of the first `count` tokens of the order.
    [[nodiscard]] double middle(TokenId token, std::size_t count) const {
        const auto at = static_cast<std::size_t>(token);
        double before = 0;
        double all = 0;
        for (std::size_t other = 0; other < weights.size(); ++other) {
            const double weight = rank[other] < count ? weights[other] : 0;
            before += other < at ? weight : other == at ? weight / 2 : 0;
            all += weight;
        }
        return before / all;
    }
};

template <class T>
Slow slow(const SamplingOptions& options, const std::vector<T>& logits) {
    const auto logit = [&](TokenId token) {
        return static_cast<double>(logits[static_cast<std::size_t>(token)]);
    };
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), TokenId{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
    if (options.top_k > 0 && options.top_k < std::ssize(order)) {
        order.resize(static_cast<std::size_t>(options.top_k));
    }
    std::vector<double> weights(logits.size());
    for (const TokenId token : order) {
        const double weight = std::exp((logit(token) - logit(order[0])) / options.temperature);
        weights[static_cast<std::size_t>(token)] = weight < options.min_p ? 0 : weight;
    }
    std::erase_if(order,
                  [&](TokenId token) { return weights[static_cast<std::size_t>(token)] == 0; });
    Slow result{order, weights, std::vector<std::size_t>(logits.size(), logits.size()), 0};
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    double sum = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const auto token = static_cast<std::size_t>(order[i]);
        result.rank[token] = i;
        result.nucleus += sum < options.top_p * all ? 1 : 0;
        sum += weights[token];
        // Where rounding decides, the comparison would say nothing.
        REQUIRE((options.top_p == 1 || std::abs(sum / all - options.top_p) > 1e-5));
    }
    return result;
}

/// Random logits; about one in eight is -infinity, and the others are equal to some if `ties`.
template <class T>
std::vector<T> random_logits(std::size_t size, bool ties, mor::Random& random) {
    std::vector<T> logits(size);
    for (T& logit : logits) {
        const double value = 2 * random.normal();
        logit = random.below(8) == 0 ? -std::numeric_limits<T>::infinity()
                                     : static_cast<T>(ties ? std::round(4 * value) / 4 : value);
    }
    logits[static_cast<std::size_t>(random.below(std::ssize(logits)))] = 1;
    return logits;
}

/// Every token in turn is drawn first of what top-k and min-p leave. Top-p must refuse it, and draw
/// of those before it in order, exactly if it is outside the nucleus.
template <class T>
void check_against_slow(const SamplingOptions& options, const std::vector<T>& logits) {
    const Slow expected = slow(options, logits);
    const double all = std::accumulate(expected.weights.begin(), expected.weights.end(), 0.0);
    mor::detail::TokenDistribution<T> distribution;
    for (std::size_t i = 0; i < expected.order.size(); ++i) {
        const TokenId token = expected.order[i];
        if (expected.weights[static_cast<std::size_t>(token)] < 1e-5 * all) {
            break;  // probabilities have the precision of float
        }
        // Then the token at a third of its place, then the likeliest.
        const TokenId next = expected.order[i / 3];
        std::size_t taken = 0;
        const TokenId drawn = distribution.draw(std::span<const T>{logits}, options, [&] {
            ++taken;
            return taken == 1   ? expected.middle(token, logits.size())
                   : taken == 2 ? expected.middle(next, i)
                                : 0.0;
        });
        CAPTURE(token);
        if (i < expected.nucleus) {
            CHECK(drawn == token);
            CHECK(taken == 1);
        } else if (i / 3 < expected.nucleus) {
            CHECK(drawn == next);
            CHECK(taken == 2);
        } else {
            CHECK(expected.rank[static_cast<std::size_t>(drawn)] < expected.nucleus);
        }
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

TEST_CASE("min-p drops what is less likely than its share of the likeliest") {
    const std::vector<float> logits{std::log(0.1F), std::log(0.6F), std::log(0.25F),
                                    std::log(0.05F)};
    check_shares({.min_p = 0.3, .seed = 3}, logits, {0, 0.6 / 0.85, 0.25 / 0.85, 0});
    CHECK(seen({.min_p = 1}, {1, 2, 0, 2}) == std::set<TokenId>{1, 3});
    // The temperature comes first.
    CHECK(seen({.temperature = 0.5, .min_p = 0.3}, logits) == std::set<TokenId>{1});
}

TEST_CASE("a token is penalised once, however often it came") {
    const std::vector<float> logits{4, 3, -1, -1.5F};
    const auto next = [&](double penalty, const std::vector<TokenId>& earlier) {
        Sampler sampler{{.temperature = 0, .repetition_penalty = penalty}};
        return sampler.sample(std::span{logits}, std::span{earlier});
    };
    CHECK(next(1, {0, 0, 0}) == 0);
    CHECK(next(1.3, {}) == 0);
    CHECK(next(1.3, {0, 0, 0}) == 0);
    CHECK(next(1.4, {0}) == 1);
    CHECK(next(1.4, {0, 1, 1}) == 0);
    const std::vector<float> negative{-1, -1.5F};
    Sampler sampler{{.temperature = 0, .repetition_penalty = 2}};
    CHECK(sampler.sample(std::span{negative}, std::span<const TokenId>{std::vector{0}}) == 1);
    // Nothing stays from one draw to the next.
    CHECK(sampler.sample(std::span{negative}, std::span<const TokenId>{std::vector{1}}) == 0);
}

TEST_CASE_TEMPLATE("every combination of options leaves what sorting everything does", T, float,
                   double) {
    mor::Random random{11};
    for (const std::size_t size : {1U, 7U, 128U, 150U}) {
        for (const bool ties : {false, true}) {
            for (const double temperature : {0.31, 1.0, 7.0}) {
                for (const Index top_k : {0, 1, 2, 20, 140}) {
                    for (const double top_p : {1.0, 0.9013, 0.3019, 1e-9}) {
                        for (const double min_p : {0.0, 0.0513}) {
                            INFO("size ", size, ", ties ", ties, ", temperature ", temperature,
                                 ", top_k ", top_k, ", top_p ", top_p, ", min_p ", min_p);
                            check_against_slow<T>({temperature, top_k, top_p, min_p, 1.0, 0},
                                                  random_logits<T>(size, ties, random));
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE("top-k finds its bound among more blocks than it keeps tokens") {
    mor::Random random{12};
    for (const bool ties : {false, true}) {
        const auto logits = random_logits<float>(5'000, ties, random);
        check_against_slow<float>({.top_k = 5, .top_p = 0.7017}, logits);
        check_against_slow<float>({.top_k = 30}, logits);
    }
}

TEST_CASE("the frequencies of tokens fit their probabilities") {
    constexpr int count = 10'000;
    mor::Random random{13};
    const auto logits = random_logits<float>(300, true, random);
    for (const SamplingOptions& options : std::vector<SamplingOptions>{
             {}, {.top_k = 40}, {.top_p = 0.9013}, {.top_k = 60, .top_p = 0.8, .min_p = 0.02}}) {
        const Slow expected = slow(options, logits);
        std::vector<int> drawn(logits.size(), 0);
        for (const TokenId token : draw(options, logits, count)) {
            ++drawn[static_cast<std::size_t>(token)];
        }
        const auto at = [&](std::size_t i) { return static_cast<std::size_t>(expected.order[i]); };
        double all = 0;
        int drawn_in_nucleus = 0;
        for (std::size_t i = 0; i < expected.nucleus; ++i) {
            all += expected.weights[at(i)];
            drawn_in_nucleus += drawn[at(i)];
        }
        CHECK(drawn_in_nucleus == count);
        double chi_square = 0;
        int freedom = -1;
        for (std::size_t i = 0; i < expected.nucleus; ++i) {
            const double mean = count * expected.weights[at(i)] / all;
            if (mean >= 5) {  // the usual limit of the test
                chi_square += (drawn[at(i)] - mean) * (drawn[at(i)] - mean) / mean;
                ++freedom;
            }
        }
        // Its mean is the degrees of freedom, and its variance twice that.
        CHECK(freedom > 5);
        CHECK(std::abs(chi_square - freedom) < 4 * std::sqrt(2.0 * freedom));
    }
}

TEST_CASE("powers of two are close to those of the standard library") {
    for (float x = 0; x >= -60; x -= 0.0137F) {
        const double exact = std::exp2(static_cast<double>(x));
        CHECK(std::abs(static_cast<double>(mor::detail::power_of_two(x)) - exact) < 1e-6 * exact);
    }
}

TEST_CASE("extreme temperatures and logits are drawn from") {
    CHECK(seen({.temperature = 1e-300}, {1, 2, -infinity, 2}) == std::set<TokenId>{1, 3});
    CHECK(seen({.temperature = 1e300}, {1, 2, -infinity, 2}) == std::set<TokenId>{0, 1, 3});
    CHECK(seen({.temperature = 1e300, .top_k = 2, .top_p = 0.7}, {1, 2, -infinity, 3}) ==
          std::set<TokenId>{1, 3});
    CHECK(seen({.top_p = 1e-300}, {1, 2, -infinity}) == std::set<TokenId>{1});
    CHECK(seen({}, {3e38F, -3e38F, 3e38F}) == std::set<TokenId>{0, 2});
}

TEST_CASE("a sampler draws from vocabularies of any size in turn") {
    Sampler sampler{{.top_k = 3, .top_p = 0.9}};
    for (const std::size_t size : {1'000U, 128U, 5U, 129U, 1U}) {
        std::vector<float> logits(size, -20.0F);
        logits.back() = 20;
        CHECK(sampler.sample(std::span<const float>{logits}) == static_cast<TokenId>(size - 1));
        const std::vector<double> doubles(logits.begin(), logits.end());
        CHECK(sampler.sample(std::span<const double>{doubles}) == static_cast<TokenId>(size - 1));
    }
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
    CHECK_THROWS_WITH_AS(make({.min_p = 2}),
                         "mor::Sampler: min_p is 2, expected a number in [0, 1]", ConfigError);
    // Logits may be floats, in which this is 0.
    CHECK_THROWS_AS(make({.repetition_penalty = 1e-50}), mor::ConfigError);
    CHECK_THROWS_AS(make({.repetition_penalty = 1e300}), mor::ConfigError);
    CHECK_THROWS_WITH_AS(make({.repetition_penalty = 0}),
                         "mor::Sampler: repetition_penalty is 0, expected a positive number in the "
                         "range of float",
                         ConfigError);
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
