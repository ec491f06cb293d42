// SPDX-License-Identifier: Apache-2.0
//
// Whole models on the kernels of the CUDA backend, against the same models on Reference: losses,
// gradients, tokens, served tokens. Which backends are tested says under_test.hpp, found by the
// include path.
#include "under_test.hpp"
#include <mor/backends/reference/reference.hpp>
#include <mor/generate/generate.hpp>
#include <mor/serve/engine.hpp>
#include <mor/testing/backend_conformance.hpp>
#include <mor/testing/tolerance.hpp>

#include <cuda/pass.hpp>
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Oracle = mor::Reference<double>;
using Tested = std::tuple_element_t<1, backend_tests::BackendsUnderTest>;
static_assert(std::is_same_v<Tested::Element, double>);

constexpr double tolerance = 1e-9;

/// The same model on two backends.
template <class A>
struct Models {
    Tested backend;
    Oracle oracle_backend;
    mor::Model<A, Tested> tested;
    mor::Model<A, Oracle> oracle;

    Models()
        : tested{backend, small_config<A>(), small_options<A>(), 3},
          oracle{oracle_backend, small_config<A>(), small_options<A>(), 3} {
        fill_zero_parameters(oracle);
        std::vector<std::vector<double>> values;
        std::as_const(oracle).visit_parameters([&](const mor::Parameter<Oracle>& parameter) {
            values.push_back(to_host(parameter.value()));
        });
        std::size_t next = 0;
        tested.visit_parameters([&](mor::Parameter<Tested>& parameter) {
            from_host(parameter.value(), values.at(next++));
        });
    }
};

std::string mismatch(const std::vector<double>& actual, const std::vector<double>& expected) {
    const mor::View<const double, 1> found{actual.data(), {std::ssize(actual)}};
    const mor::View<const double, 1> right{expected.data(), {std::ssize(expected)}};
    return mor::testing::mismatch(found, right, tolerance);
}

template <class A, mor::Backend B>
std::vector<std::pair<mor::TokenId, Index>> continuation(const mor::Model<A, B>& model) {
    const std::vector<mor::TokenId> prompt{3, 1, 4, 1, 5, 9, 2};
    std::vector<std::pair<mor::TokenId, Index>> tokens;
    const auto generated =
        generate(model, prompt, {.max_new_tokens = 12, .sampling = {.temperature = 0}});
    for (const mor::GeneratedToken& token : generated.tokens) {
        tokens.emplace_back(token.token, token.depth);
    }
    return tokens;
}

/// What three sequences read: the logits of their last rows, after a prompt and after two tokens
/// more, with a cache; then those of all rows, without. And the depths that each row was given.
struct Reading {
    std::vector<std::vector<double>> logits = {};
    std::vector<std::vector<Index>> depths = {};
};
template <class A, mor::Backend B>
Reading read(const mor::Model<A, B>& model, const mor::DepthControl& depth) {
    mor::Context<B> context{model.backend()};
    mor::Trace<A, B> trace;
    Reading reading;
    const auto keep = [&] {
        reading.logits.push_back(to_host(trace.logits));
        reading.depths.push_back(mor::token_depths(trace));
    };
    const Index vocabulary = model.config().vocab_size;
    const Sequences prompt = random_sequences({6, 2, 9}, vocabulary, 5);
    auto cache = model.make_cache(3);
    const mor::ExtendOptions options{.logits = mor::Logits::last_rows, .depth = depth};
    model.extend(context, prompt.batch(), cache, trace, options);
    keep();
    for (const std::uint64_t seed : {6U, 7U}) {
        const Sequences next = random_sequences({1, 1, 1}, vocabulary, seed);
        model.extend(context, next.batch(), cache, trace, options);
        keep();
    }
    model.forward(context, prompt.batch(), {.decision = mor::Decision::causal, .depth = depth},
                  trace);
    keep();
    return reading;
}

/// The answers to requests of different lengths that are served together.
template <class A, mor::Backend B>
std::vector<std::pair<mor::TokenId, Index>> served(const mor::Model<A, B>& model) {
    mor::Engine<A, B> engine{model, {.max_batch = 8, .cache_bytes = 1 << 20, .block_size = 4}};
    std::vector<mor::RequestHandle> handles;
    for (const Index length : {1, 12, 5, 23, 2}) {
        const Sequences prompt = random_sequences({length}, model.config().vocab_size, 5);
        handles.push_back(engine.submit(
            prompt.tokens, {.max_new_tokens = 3 + length / 2, .sampling = {.temperature = 0}}));
    }
    engine.run();
    std::vector<std::pair<mor::TokenId, Index>> tokens;
    for (mor::RequestHandle& handle : handles) {
        while (const auto token = handle.try_next()) {
            tokens.emplace_back(token->token, token->depth);
        }
    }
    return tokens;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("a model computes the oracle's loss and gradients", A, same_gradients) {
    Models<A> models;
    // So many rows that attention works on tiles of them.
    const Sequences sequences =
        random_sequences({9, 1, 21, 40, 35, 28}, models.oracle.config().vocab_size);
    const Pass<double> actual = run_pass(models.tested, sequences);
    const Pass<double> expected = run_pass(models.oracle, sequences);
    CHECK(mor::testing::mismatch(actual.loss, expected.loss, tolerance) == "");
    CHECK(actual.depths == expected.depths);
    REQUIRE(actual.gradients.size() == expected.gradients.size());
    for (std::size_t i = 0; i < actual.gradients.size(); ++i) {
        CAPTURE(actual.gradients[i].first);
        CHECK(mismatch(actual.gradients[i].second, expected.gradients[i].second) == "");
    }
}
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_ALL_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_ROUTER_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_HYBRID_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_SHARED_CACHE_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_PATTERN_CACHE_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_RELAXED_ARCHITECTURES);
TEST_CASE_TEMPLATE_INVOKE(same_gradients, MOR_HALTING_ARCHITECTURES);

TEST_CASE_TEMPLATE_DEFINE("a model continues a prompt as the oracle does", A, same_tokens) {
    const Models<A> models;
    CHECK(continuation(models.tested) == continuation(models.oracle));
}
TEST_CASE_TEMPLATE_INVOKE(same_tokens, mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>,
                          mor::MoRToken<mor::Cycle>, CyclePonder);
TEST_CASE_TEMPLATE_INVOKE(same_tokens, MOR_HYBRID_ARCHITECTURES);

TEST_CASE_TEMPLATE_DEFINE("a model reads, also to limited depths, as the oracle does", A,
                          same_reading) {
    const Models<A> models;
    const std::vector<Index> limits{1, 3, 2};
    for (const mor::DepthControl& depth :
         {mor::DepthControl{}, mor::DepthControl{.max_depth = 2},
          mor::DepthControl{.max_depths = limits}, mor::DepthControl{.forced_depth = 2}}) {
        const Reading actual = read(models.tested, depth);
        const Reading expected = read(models.oracle, depth);
        CHECK(actual.depths == expected.depths);
        for (std::size_t i = 0; i < expected.logits.size(); ++i) {
            CHECK(mismatch(actual.logits[i], expected.logits[i]) == "");
        }
    }
}
TEST_CASE_TEMPLATE_INVOKE(same_reading, mor::MoRExpert<mor::MiddleCycle>,
                          mor::MoRToken<mor::MiddleCycle>, CyclePonder);
TEST_CASE_TEMPLATE_INVOKE(same_reading, MOR_LAST_ROWS_ARCHITECTURES);

TEST_CASE_TEMPLATE_DEFINE("an engine answers as the oracle's does", A, same_answers) {
    const Models<A> models;
    const auto expected = served(models.oracle);
    CHECK(!expected.empty());
    CHECK(served(models.tested) == expected);
}
TEST_CASE_TEMPLATE_INVOKE(same_answers, mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>,
                          mor::MoRToken<mor::Cycle>);
TEST_CASE_TEMPLATE_INVOKE(same_answers, MOR_HYBRID_ARCHITECTURES);

TEST_CASE_TEMPLATE_DEFINE("the backend is conforming", B, conforming) {
    B backend;
    Oracle oracle;
    CHECK(mor::testing::check_backend(backend, oracle) == mor::testing::Violations{});
}
TEST_CASE_TEMPLATE_APPLY(conforming, backend_tests::BackendsUnderTest);
