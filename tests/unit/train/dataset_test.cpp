// SPDX-License-Identifier: Apache-2.0
#include <mor/train/dataset.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

using mor::ConfigError;
using mor::Index;
using mor::test::throws_with;
using mor::test::TokenText;

namespace {

/// Tokens that say where they are.
TokenText counting_text(Index count, std::string name = "text") {
    std::vector<mor::TokenId> tokens;
    for (Index i = 0; i < count; ++i) {
        tokens.push_back(static_cast<mor::TokenId>(i));
    }
    return TokenText{tokens, std::move(name)};
}

}  // namespace

TEST_CASE("a window's targets are its tokens one later") {
    const auto text = counting_text(100);
    mor::WindowBatch batch;
    batch.append(text, 10, 3);
    batch.append(text, 96, 2);
    CHECK(batch.tokens == std::vector<mor::TokenId>{10, 11, 12, 96, 97});
    CHECK(batch.targets == std::vector<mor::TokenId>{11, 12, 13, 97, 98});
    CHECK(batch.lengths == std::vector<Index>{3, 2});
}

TEST_CASE("the same seed and draw give the same windows, others give others") {
    const auto text = counting_text(10'000);
    const auto draw = [&](std::uint64_t seed, std::uint64_t number) {
        return mor::random_windows(text, text.all(), 4, 8, seed, number).tokens;
    };
    CHECK(draw(1, 2) == draw(1, 2));
    std::set<std::vector<mor::TokenId>> seen;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        for (std::uint64_t number = 0; number < 10; ++number) {
            seen.insert(draw(seed, number));
        }
    }
    CHECK(seen.size() == 100);
}

TEST_CASE("windows lie in their range, reach both of its ends, and are as many as asked for") {
    const auto text = counting_text(60);
    std::set<mor::TokenId> begins;
    for (std::uint64_t draw = 0; draw < 200; ++draw) {
        const auto batch = mor::random_windows(text, {20, 40}, 3, 7, 5, draw);
        REQUIRE(batch.lengths == std::vector<Index>{7, 7, 7});
        for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
            REQUIRE(batch.tokens[i] >= 20);
            REQUIRE(batch.targets[i] < 40);
            REQUIRE(batch.targets[i] == batch.tokens[i] + 1);
            if (i % 7 == 0) {
                begins.insert(batch.tokens[i]);
            }
        }
    }
    CHECK(*begins.begin() == 20);
    CHECK(*begins.rbegin() == 32);  // its last target is token 39
    CHECK(begins.size() == 13);
}

TEST_CASE("no training window ever reads a held-out token") {
    mor::Random random{3};
    for (int trial = 0; trial < 500; ++trial) {
        const Index window = 1 + random.below(9);
        const Index held_out = window + 1 + random.below(30);
        const Index size = held_out + window + 1 + random.below(100);
        const auto text = counting_text(size);
        const auto parts = mor::split(text, held_out, window);
        REQUIRE(parts.training.first == 0);
        REQUIRE(parts.training.last == parts.held_out.first);
        REQUIRE(parts.held_out.last == size);
        REQUIRE(parts.held_out.size() == held_out);
        const auto trained = mor::random_windows(text, parts.training, 8, window, 1,
                                                 static_cast<std::uint64_t>(trial));
        const auto tested = mor::random_windows(text, parts.held_out, 8, window, 1,
                                                static_cast<std::uint64_t>(trial));
        REQUIRE(*std::max_element(trained.targets.begin(), trained.targets.end()) <
                *std::min_element(tested.tokens.begin(), tested.tokens.end()));
    }
}

TEST_CASE("a split that leaves a part too short names the stream and the sizes") {
    const auto text = counting_text(20, "corpus.txt");
    const auto splitting = [&](Index held_out, Index window) {
        return [&text, held_out, window] { (void)mor::split(text, held_out, window); };
    };
    CHECK_NOTHROW(splitting(10, 9)());
    CHECK(throws_with<ConfigError>(splitting(10, 10), {"corpus.txt", "20 tokens", "window of 10"}));
    CHECK(throws_with<ConfigError>(splitting(0, 4), {"corpus.txt", "0 of them held out"}));
    CHECK(throws_with<ConfigError>(splitting(20, 4), {"corpus.txt"}));
    CHECK(throws_with<ConfigError>(splitting(500, 4), {"corpus.txt"}));
    CHECK(throws_with<ConfigError>(splitting(-5, 4), {"corpus.txt"}));
}

TEST_CASE("a range too short for a window names the stream and the sizes") {
    const auto text = counting_text(20, "corpus.txt");
    const auto drawing = [&](mor::TokenRange range) {
        return [&text, range] { (void)mor::random_windows(text, range, 1, 5, 0, 0); };
    };
    CHECK_NOTHROW(drawing({3, 9})());
    CHECK(throws_with<ConfigError>(drawing({3, 8}), {"corpus.txt", "offers 5 tokens", "needs 6"}));
    CHECK(throws_with<ConfigError>(drawing({8, 3}), {"corpus.txt"}));
}
