// SPDX-License-Identifier: Apache-2.0
//
// Whole models whose weights and activations are kept rounded, against those that are rounded for
// each product, and against floats. The backend under test is that of under_test.hpp, found by the
// include path.
#include "under_test.hpp"
#include <mor/backends/reference/reference.hpp>
#include <mor/generate/generate.hpp>
#include <mor/train/trainer.hpp>

#include <cuda/float_activations.hpp>
#include <cuda/pass.hpp>
#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <cmath>
#include <concepts>
#include <functional>
#include <iterator>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Tested = std::tuple_element_t<0, backend_tests::BackendsUnderTest>;
using System = Tested::System;

/// The same products of weights that are rounded for each.
struct ForgetfulSystem : System {
    struct PackedWeight {};
};
using Forgetful = mor::Cuda<float, ForgetfulSystem>;
static_assert(mor::PacksWeights<Tested> && !mor::PacksWeights<Forgetful>);

using FloatActivations = mor::Cuda<float, FloatActivationsSystem<Tested::System>>;
static_assert(std::same_as<mor::ActivationElement<Tested>, mor::BFloat16> &&
              std::same_as<mor::ActivationElement<FloatActivations>, float>);

/// Counts how often weights are rounded.
struct CountingSystem : System {
    struct PackedWeight : System::PackedWeight {
        static inline Index num_packed = 0;

        template <mor::Backend B>
        void pack(const B& backend, mor::ConstMatrixView<B> weight) {
            ++num_packed;
            System::PackedWeight::pack(backend, weight);
        }
    };
};
using Counting = mor::Cuda<float, CountingSystem>;

/// Bytes that a pass leaves in the arena for the backward pass.
template <class A, mor::Backend B>
Index kept_bytes(const Sequences& sequences) {
    B backend;
    const mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::Context<B> context{backend};
    mor::Trace<A, B> trace;
    model.forward(context, sequences.batch(), {}, trace);
    model.forward(context, sequences.batch(), {}, trace);  // in one piece of memory
    const auto mark = context.arena().mark();
    REQUIRE(mark.chunk == 0);
    return static_cast<Index>(mark.used);
}

/// Feed-forward layers and adapters that change little, so that no gradient is a small difference
/// of large numbers, which rounding would change by any share.
template <class A, mor::Backend B>
void calm(mor::Model<A, B>& model) {
    model.visit_parameters([](mor::Parameter<B>& parameter) {
        const std::string& name = parameter.name();
        if (name.find(".up") != std::string::npos || name.find("gate.") != std::string::npos) {
            std::vector<float> values = to_host(std::as_const(parameter).value());
            for (float& value : values) {
                value *= 0.1F;
            }
            from_host(parameter.value(), values);
        }
    });
}

/// A pass of a calm model.
template <class A, mor::Backend B>
Pass<float> calm_pass() {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    fill_zero_parameters(model);
    calm(model);
    return run_pass(model, random_sequences({9, 1, 21, 40, 35, 28}, model.config().vocab_size, 6));
}

double norm(const std::vector<float>& x) {
    return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    return std::sqrt(std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0, std::plus{},
                                           [](double x, double y) { return (x - y) * (x - y); }));
}

/// Weights after some updates, and then the tokens that follow a prompt.
template <class A, mor::Backend B>
std::pair<std::vector<float>, std::vector<mor::TokenId>> train_and_generate() {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    fill_zero_parameters(model);
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 3, .sequence = 20, .micro_batches = 2}};
    for (int step = 0; step < 3; ++step) {
        trainer.step();
    }
    std::vector<mor::TokenId> tokens;
    const auto generated = generate(model, std::vector<mor::TokenId>{3, 1, 4, 1, 5},
                                    {.max_new_tokens = 12, .sampling = {.temperature = 0}});
    for (const mor::GeneratedToken& token : generated.tokens) {
        tokens.push_back(token.token);
    }
    return {weights_of(model), tokens};
}

}  // namespace

TEST_CASE_TEMPLATE("kept weights train and generate the same, to the bit", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>, CycleInputInjection,
                   SequenceLowRank) {
    CHECK(train_and_generate<A, Tested>() == train_and_generate<A, Forgetful>());
}

TEST_CASE_TEMPLATE("with activations that are kept rounded, every gradient is near that of floats",
                   A, mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>,
                   SequenceLowRank, ExpertPrompt, CyclePonder, MiddleExitGate,
                   CycleInputInjection) {
    const Pass<float> exact = calm_pass<A, mor::Reference<float>>();
    const Pass<float> rounded = calm_pass<A, Tested>();
    REQUIRE(rounded.depths == exact.depths);  // no score is so near another
    CHECK(std::abs(rounded.loss / exact.loss - 1) < 1e-3);
    REQUIRE(rounded.gradients.size() == exact.gradients.size());
    for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
        const auto& [name, expected] = exact.gradients[i];
        CAPTURE(name);
        CHECK(distance(rounded.gradients[i].second, expected) <= 0.1 * norm(expected));
    }
}

TEST_CASE_TEMPLATE("activations that are kept rounded take half the memory", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>) {
    const Sequences sequences = random_sequences({60, 60, 8}, 29);
    const mor::ModelConfig config = small_config<A>();
    const Index rows = std::ssize(sequences.tokens);
    // Of a row: norms, what SwiGLU keeps, what attention reads and makes, the last norm.
    const Index attention = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim;
    const Index numbers =
        config.num_layers * (2 * config.hidden_size + 3 * config.intermediate_size + attention) +
        config.hidden_size;
    CHECK(kept_bytes<A, FloatActivations>(sequences) - kept_bytes<A, Tested>(sequences) ==
          rows * numbers * 2);
}

TEST_CASE_TEMPLATE("a weight is rounded once an update, however often it is multiplied", A,
                   mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>) {
    using Weight = CountingSystem::PackedWeight;
    Counting backend;
    mor::Model<A, Counting> model{backend, small_config<A>(), small_options<A>(), 3};
    Index num_weights = 0;
    std::as_const(model).visit_parameters([&](const auto& parameter) {
        const std::vector<Index>& shape = parameter.shape();
        num_weights += shape.size() == 2 && Weight::pays(1, shape[0]) ? 1 : 0;
    });
    REQUIRE(num_weights > 0);
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 3, .sequence = 20, .micro_batches = 2}};
    for (int step = 0; step < 3; ++step) {
        Weight::num_packed = 0;
        trainer.step();
        CHECK(Weight::num_packed == num_weights);
    }
}
