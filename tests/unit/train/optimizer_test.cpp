// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/adamw.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Index;

using Cpu = mor::Cpu<double>;
using A = mor::MoRExpert<mor::MiddleCycle>;

struct Fixture {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    mor::Context<Cpu> context{cpu};
    double loss = 1;
    std::array<double, mor::num_trained_groups> norms{};

    void update(mor::AdamW<Cpu>& optimizer, double learning_rate_factor, double clip) {
        optimizer.begin_update(learning_rate_factor);
        optimizer.update(context, model, clip, {&loss, {1}}, {norms.data(), {std::ssize(norms)}});
    }
};

constexpr double no_clip = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("without gradients matrices shrink by rate times decay, and norms stay") {
    Fixture f;
    const std::vector<double> before = weights_of(f.model);
    mor::AdamW<Cpu> optimizer{f.model, {.learning_rate = 0.02, .weight_decay = 0.3}};
    f.model.zero_gradients();
    f.update(optimizer, 0.5, no_clip);

    std::size_t at = 0;
    Index num_norms = 0;
    Index num_matrices = 0;
    f.model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        CAPTURE(parameter.name());
        const bool is_norm = parameter.name().find("norm") != std::string::npos;
        CHECK((parameter.decay() == mor::WeightDecay::no) == is_norm);
        ++(is_norm ? num_norms : num_matrices);
        for (const double value : mor::to_host(parameter.value())) {
            const double factor = is_norm ? 1.0 : 1.0 - 0.5 * 0.02 * 0.3;
            REQUIRE(std::abs(value - factor * before[at++]) <= 1e-15);
        }
    });
    CHECK(num_norms == 2 * f.model.layout().num_physical() + 1);
    CHECK(num_matrices == 7 * f.model.layout().num_physical() + 1 + 3);
}

TEST_CASE("the gradient's norm is that of all parameters together") {
    Fixture f;
    mor::AdamW<Cpu> optimizer{f.model, {}};
    f.model.zero_gradients();
    f.update(optimizer, 1, no_clip);
    CHECK(f.norms[0] == 0);
    mor::Random random{4};
    double sum = 0;
    f.model.visit_parameters([&](mor::Parameter<Cpu>& parameter) {
        const auto values = mor::testing::normal_values(random, parameter.size());
        mor::from_host(parameter.gradient(), values);
        for (const double value : values) {
            sum += value * value;
        }
    });
    f.update(optimizer, 1, no_clip);
    CHECK(f.norms[0] == doctest::Approx(std::sqrt(sum)).epsilon(1e-12));
    CHECK(f.norms[1] == 0);  // there is no auxiliary router
}

TEST_CASE("three updates are those of the textbook") {
    Fixture f;
    const mor::AdamWOptions options{.learning_rate = 0.01, .epsilon = 1e-3};
    mor::AdamW<Cpu> optimizer{f.model, options};
    auto* const parameter = find_parameter(f.model, "model.layers.1.mlp.down_proj.weight");
    REQUIRE(parameter != nullptr);
    double value = parameter->value()[5];
    double m = 0;
    double v = 0;
    for (int t = 1; t <= 3; ++t) {
        f.model.zero_gradients();
        parameter->gradient()[5] = 0.2 * t;
        f.update(optimizer, 1.0, 0.1);
        CHECK(f.norms[0] == doctest::Approx(0.2 * t).epsilon(1e-15));
        const double g = 0.2 * t * 0.1 / (0.2 * t + 1e-6);
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        const double m_hat = m / (1 - std::pow(0.9, t));
        const double v_hat = v / (1 - std::pow(0.95, t));
        value -= 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-3) + 0.1 * value);
        CHECK(parameter->value()[5] == doctest::Approx(value).epsilon(1e-13));
    }
    CHECK(optimizer.updates() == 3);
}

TEST_CASE("an auxiliary router has a rate and a norm of its own, but no update alone") {
    Cpu cpu{{.threads = 1}};
    using Auxiliary = mor::test::ExpertAuxiliary;
    mor::Model<Auxiliary, Cpu> model{cpu, small_config<Auxiliary>(), small_options<Auxiliary>(), 3};
    mor::Context<Cpu> context{cpu};
    mor::AdamW<Cpu> optimizer{
        model, {.learning_rate = 0.01, .weight_decay = 0, .auxiliary_router_factor = 4}};
    std::array<double, mor::num_trained_groups> norms{};
    double loss = 1;
    const auto update = [&] {
        optimizer.begin_update(1);
        optimizer.update(context, model, 1.0, {&loss, {1}}, {norms.data(), {std::ssize(norms)}});
    };
    mor::Parameter<Cpu>* of_model = nullptr;
    mor::Parameter<Cpu>* of_router = nullptr;
    model.visit_parameters([&](mor::Parameter<Cpu>& parameter) {
        const bool is_model = parameter.group() == mor::OptimizerGroup::model;
        (is_model ? of_model : of_router) = &parameter;
    });
    REQUIRE(of_router != nullptr);
    model.zero_gradients();
    of_model->gradient()[0] = 3;
    of_router->gradient()[0] = 0.5;
    const double a = of_model->value()[0];
    const double b = of_router->value()[0];
    update();
    CHECK(norms[0] == 3);
    CHECK(norms[1] == 0.5);
    // In the first update both go as far as their rates, whatever the gradients.
    CHECK(of_model->value()[0] - a == doctest::Approx(-0.01).epsilon(1e-6));
    CHECK(of_router->value()[0] - b == doctest::Approx(-0.04).epsilon(1e-6));

    const auto weights = weights_of(model);
    const auto moments = moments_of(optimizer);
    of_router->gradient()[0] = std::numeric_limits<double>::infinity();
    update();
    CHECK(norms[0] == 3);
    CHECK(std::isinf(norms[1]));
    CHECK(weights_of(model) == weights);
    CHECK(moments_of(optimizer) == moments);
}

TEST_CASE("an update follows the model that it is given") {
    Fixture f;
    Fixture other;
    mor::AdamW<Cpu> optimizer{f.model, {.weight_decay = 0}};
    f.model.zero_gradients();
    other.model.zero_gradients();
    f.update(optimizer, 1, no_clip);
    find_parameter(other.model, "model.norm.weight")->gradient()[2] = 1;
    const auto before = weights_of(f.model);
    other.update(optimizer, 1, no_clip);
    CHECK(weights_of(f.model) == before);
    CHECK(weights_of(other.model) != before);
}

TEST_CASE("impossible options are refused") {
    Fixture f;
    const auto constructing = [&](const mor::AdamWOptions& options) {
        return [&f, options] { const mor::AdamW<Cpu> optimizer{f.model, options}; };
    };
    CHECK_NOTHROW(constructing({.learning_rate = 0, .beta1 = 0, .beta2 = 0, .weight_decay = 0})());
    CHECK(throws_with<ConfigError>(constructing({.learning_rate = -1}), {"learning_rate", "-1"}));
    CHECK(throws_with<ConfigError>(constructing({.learning_rate = std::nan("")}), {"nan"}));
    CHECK(throws_with<ConfigError>(constructing({.beta1 = 1}), {"beta1", "[0, 1)"}));
    CHECK(throws_with<ConfigError>(constructing({.beta2 = -0.1}), {"beta2", "-0.1"}));
    CHECK(throws_with<ConfigError>(constructing({.epsilon = 0}), {"epsilon"}));
    CHECK(throws_with<ConfigError>(constructing({.weight_decay = -0.5}), {"weight_decay", "-0.5"}));
}
