// SPDX-License-Identifier: Apache-2.0
//
// The gradient of whole models, every parameter, against finite differences in double.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/testing/gradient_check.hpp>

#include <doctest/doctest.h>
#include <unit/model/training_pass.hpp>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;

using Cpu = mor::Cpu<double>;
using Values = std::vector<double>;

constexpr Index vocabulary = 11;
// Small steps, so that no token changes its depth; the check below would notice.
constexpr mor::testing::GradientCheckOptions differences{.step = 1e-4, .tolerance = 1e-6};

/// Three steps of one layer, between what layers of their own the sharing has.
template <class A>
mor::ModelConfig tiny_config(bool tied) {
    mor::ModelConfig config = small_config<A>();
    config.vocab_size = vocabulary;
    config.hidden_size = 8;
    config.intermediate_size = 12;
    const bool alternates = A::Sharing::name == std::string_view{"alternating"};
    const bool is_pattern = requires(mor::ArchitectureOptions<A> o) { o.cache.num_recursions; };
    config.num_layers -= alternates || is_pattern ? 0 : 3;
    config.num_heads = 2;
    config.num_kv_heads = 1;
    config.tie_embeddings = tied;
    return config;
}

/// The part of the objective that trains a parameter: the loss of an auxiliary router reaches
/// nothing but that router.
double part_for(const mor::Parameter<Cpu>& parameter, bool has_auxiliary_router, double objective,
                const std::vector<mor::LossTerm>& losses) {
    for (const mor::LossTerm& term : losses) {
        if (has_auxiliary_router && term.name == "selection" &&
            parameter.group() == mor::OptimizerGroup::model) {
            objective -= term.coefficient * term.value;
        }
    }
    return objective;
}

/// Whether a parameter makes keys or values in a layer of its own that reads those of another.
template <class A>
bool only_makes_unread_keys(const mor::Model<A, Cpu>& model, const std::string& name) {
    if (name.find("k_proj") == std::string::npos && name.find("v_proj") == std::string::npos) {
        return false;
    }
    const auto& physical = model.layout().physical;
    for (std::size_t layer = 0; layer < physical.size(); ++layer) {
        const std::string part = "layers." + std::to_string(physical[layer]) + ".";
        if (name.find(part) != std::string::npos && model.key_uses()[layer].computes()) {
            return false;
        }
    }
    return true;
}

template <class A>
void check_model(bool tied, double loss_scale, const mor::ForwardOptions& options = {}) {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, tiny_config<A>(tied), small_options<A>(), 21};
    fill_zero_parameters(model);
    const Sequences sequences = random_sequences({6, 1, 8}, vocabulary, 5);
    const auto targets = random_targets(sequences, vocabulary);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;

    model.zero_gradients();
    const double loss =
        training_pass(model, context, trace, sequences, targets, loss_scale, options);
    CHECK(loss > 0);
    const std::vector<Index> depths = mor::token_depths(trace);
    // An exit gate drops no token in training, and its negative entropy is a reward. Random depth
    // is the same for all tokens.
    if (!mor::keeps_every_token<typename A::Router> && A::Router::name != mor::ExitGate::name &&
        A::Router::name != mor::RandomDepth::name) {
        CHECK(std::set<Index>(depths.begin(), depths.end()).size() > 1);
        for (const mor::LossTerm& term : trace.losses.to_host()) {
            CHECK(term.coefficient * term.value > 0);
        }
    }
    std::vector<std::pair<mor::Parameter<Cpu>*, Values>> gradients;
    bool has_auxiliary_router = false;
    model.visit_parameters([&](mor::Parameter<Cpu>& parameter) {
        if (parameter.group() != mor::OptimizerGroup::none) {
            gradients.emplace_back(&parameter, mor::to_host(parameter.gradient()));
        }
        has_auxiliary_router =
            has_auxiliary_router || parameter.group() == mor::OptimizerGroup::auxiliary_router;
    });

    bool same_depths = true;
    for (const auto& [parameter, gradient] : gradients) {
        const Values center = mor::to_host(parameter->value());
        const auto objective = [&, p = parameter](const Values& point) {
            mor::from_host(p->value(), point);
            const double value =
                training_pass(model, context, trace, sequences, targets, loss_scale, options);
            same_depths = same_depths && mor::token_depths(trace) == depths;
            return part_for(*p, has_auxiliary_router, value, trace.losses.to_host());
        };
        const auto found = mor::testing::check_gradient(objective, center, gradient, differences);
        mor::from_host(parameter->value(), center);
        CAPTURE(parameter->name());
        CHECK_MESSAGE(found.passes(), found.message());
        CHECK(std::any_of(gradient.begin(), gradient.end(), [](double g) { return g != 0; }) !=
              only_makes_unread_keys(model, parameter->name()));
    }
    CHECK(same_depths);
}

}  // namespace

TEST_CASE_TEMPLATE("the gradient of the model is that of its loss", A, MOR_ALL_ARCHITECTURES,
                   MOR_SHARED_CACHE_ARCHITECTURES, MOR_HYBRID_ARCHITECTURES,
                   MOR_ROUTER_ARCHITECTURES, MOR_RELAXED_ARCHITECTURES, MOR_HALTING_ARCHITECTURES,
                   MOR_PATTERN_CACHE_ARCHITECTURES) {
    check_model<A>(true, 1);
}

TEST_CASE_TEMPLATE("so it is with a head of its own and scaled router losses", A,
                   mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    check_model<A>(false, 0.25);
}

TEST_CASE("so it is when a random depth ends training passes early") {
    const mor::RandomDepth router{{}};
    for (const Index depth : {Index{1}, Index{2}}) {
        Index training_step = 1;
        while (router.depth(training_step, 3) != depth) {
            ++training_step;
        }
        check_model<SandwichRandomDepth>(true, 1, {.training_step = training_step});
    }
}

TEST_CASE_TEMPLATE("a second backward pass adds to the gradients", A, mor::MoRExpert<mor::Cycle>,
                   mor::MoRToken<mor::Cycle>) {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, tiny_config<A>(true), small_options<A>(), 21};
    const Sequences sequences = random_sequences({6, 1, 8}, vocabulary, 5);
    const auto targets = random_targets(sequences, vocabulary);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    std::vector<Values> once;
    training_pass(model, context, trace, sequences, targets);
    model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        once.push_back(mor::to_host(parameter.gradient()));
    });
    training_pass(model, context, trace, sequences, targets);
    std::size_t i = 0;
    model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        Values& expected = once[i++];
        std::transform(expected.begin(), expected.end(), expected.begin(),
                       [](double g) { return 2 * g; });
        CHECK(max_difference(mor::to_host(parameter.gradient()), expected) < 1e-12);
    });
}
