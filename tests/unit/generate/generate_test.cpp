// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/generate/generate.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Decision;
using mor::GeneratedToken;
using mor::GenerateOptions;
using mor::Index;
using mor::TokenId;

using Cpu = mor::Cpu<double>;

const std::vector<TokenId> prompt{7, 1, 19, 4, 4};

template <class A>
struct Fixture {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    mor::Context<Cpu> context{cpu};

    [[nodiscard]] mor::Generated run(const GenerateOptions& options) {
        return mor::generate(model, context, prompt, options);
    }
};

std::vector<TokenId> tokens_of(const mor::Generated& generated) {
    std::vector<TokenId> tokens;
    for (const GeneratedToken& token : generated.tokens) {
        tokens.push_back(token.token);
    }
    return tokens;
}

}  // namespace

TEST_CASE_TEMPLATE("greedy text is the argmax of full causal passes, with their depths", A,
                   mor::Vanilla, mor::Recursive<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    Fixture<A> f;
    Sequences text{prompt, {std::ssize(prompt)}};
    for (int i = 0; i < 20; ++i) {
        const auto logits = run_forward(f.model, text, Decision::causal).logits;
        const auto last = logits.end() - 29;
        text.tokens.push_back(static_cast<TokenId>(std::max_element(last, logits.end()) - last));
        ++text.lengths[0];
    }
    const auto depths = run_forward(f.model, text, Decision::causal).depths;

    const auto generated = f.run({.max_new_tokens = 20, .sampling = {.temperature = 0}});
    CHECK(tokens_of(generated) == text.tokens);
    for (std::size_t i = 0; i < generated.tokens.size(); ++i) {
        CAPTURE(i);
        CHECK(generated.tokens[i].depth == depths[i]);
        CHECK(generated.tokens[i].from_prompt == (i < prompt.size()));
    }
}

TEST_CASE("routed text has tokens of different depths, and shallow ones store less") {
    Fixture<mor::MoRExpert<mor::MiddleCycle>> routed;
    const auto generated = routed.run({.max_new_tokens = 40, .sampling = {.seed = 1}});
    std::set<Index> depths;
    Index layer_tokens = 0;
    for (const GeneratedToken& token : generated.tokens) {
        depths.insert(token.depth);
        layer_tokens += 2 + 2 * token.depth;  // two unshared layers, two layers a step
    }
    CHECK(depths.size() > 1);
    // Keys and values of 2 heads of 4 numbers.
    CHECK(generated.cache_bytes == layer_tokens * 2 * 2 * 4 * Index{sizeof(double)});
}

TEST_CASE("equal seeds give equal text, other seeds other text") {
    Fixture<mor::Vanilla> f;
    const auto text = tokens_of(f.run({.max_new_tokens = 30, .sampling = {.seed = 4}}));
    CHECK(text.size() == 35);
    CHECK(tokens_of(f.run({.max_new_tokens = 30, .sampling = {.seed = 4}})) == text);
    CHECK(tokens_of(f.run({.max_new_tokens = 30, .sampling = {.seed = 5}})) != text);
}

TEST_CASE("the callback sees every token in order") {
    Fixture<mor::MoRToken<mor::MiddleCycle>> f;
    std::vector<TokenId> seen;
    const auto generated =
        f.run({.max_new_tokens = 10, .on_token = [&](const GeneratedToken& token) {
                   CHECK(token.from_prompt == (seen.size() < prompt.size()));
                   seen.push_back(token.token);
                   return true;
               }});
    CHECK(seen.size() == 15);
    CHECK(seen == tokens_of(generated));
}

TEST_CASE("the callback can stop, in the prompt and after it") {
    Fixture<mor::Vanilla> f;
    for (const std::size_t count : {std::size_t{1}, std::size_t{5}, std::size_t{9}}) {
        std::size_t calls = 0;
        const auto generated =
            f.run({.on_token = [&](const GeneratedToken&) { return ++calls < count; }});
        CHECK(calls == count);
        CHECK(generated.tokens.size() == count);
        CHECK(generated.cache_bytes > 0);
    }
}

TEST_CASE("no new tokens means the prompt, with its depths") {
    Fixture<mor::MoRExpert<mor::MiddleCycle>> f;
    const auto generated = f.run({.max_new_tokens = 0});
    CHECK(tokens_of(generated) == prompt);
    const auto full = run_forward(f.model, Sequences{prompt, {5}}, Decision::causal);
    for (std::size_t i = 0; i < prompt.size(); ++i) {
        CHECK(generated.tokens[i].depth == full.depths[i]);
    }
}

TEST_CASE("depth can be capped, forced, and moved by the threshold") {
    Fixture<mor::MoRExpert<mor::MiddleCycle>> f;
    const auto depths = [&](const mor::DepthControl& depth) {
        std::set<Index> found;
        for (const GeneratedToken& token : f.run({.max_new_tokens = 30, .depth = depth}).tokens) {
            found.insert(token.depth);
        }
        return found;
    };
    CHECK(depths({}) == std::set<Index>{1, 2, 3});
    CHECK(depths({.max_depth = 1}) == std::set<Index>{1});
    CHECK(depths({.forced_depth = 2}) == std::set<Index>{2});
    CHECK(depths({.threshold_offset = -100}) == std::set<Index>{3});
    CHECK(throws_with<ConfigError>([&] { depths({.max_depth = 0}); }, {"max_depth is 0"}));
}

TEST_CASE("text ends at max_positions") {
    Fixture<mor::Vanilla> f;
    CHECK(f.run({.max_new_tokens = 1'000}).tokens.size() == 64);
    const std::vector<TokenId> full(64, 3);
    CHECK(mor::generate(f.model, f.context, full, {}).tokens.size() == 64);
    const std::vector<TokenId> too_long(65, 3);
    CHECK(throws_with<mor::ShapeError>(
        [&] { (void)mor::generate(f.model, f.context, too_long, {}); }, {"65", "max_positions"}));
}

TEST_CASE("what cannot be generated is refused") {
    Fixture<mor::Vanilla> f;
    CHECK(throws_with<ConfigError>(
        [&] { (void)mor::generate(f.model, f.context, std::vector<TokenId>{}, {}); },
        {"the prompt is empty"}));
    CHECK(throws_with<ConfigError>([&] { (void)f.run({.max_new_tokens = -1}); },
                                   {"max_new_tokens is -1"}));
    CHECK(
        throws_with<ConfigError>([&] { (void)f.run({.sampling = {.top_p = 2}}); }, {"top_p is 2"}));
    CHECK(throws_with<mor::ShapeError>(
        [&] {
            (void)mor::generate(f.model, f.context, std::vector<TokenId>{1, 29}, {});
        },
        {"token 29", "vocabulary of 29"}));
}

TEST_CASE("a broken model ends in an error, not in nonsense") {
    Fixture<mor::Vanilla> f;
    find_parameter(f.model, "model.norm.weight")->value()[0] =
        std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS((void)f.run({}), mor::NumericError);
}
