// SPDX-License-Identifier: Apache-2.0
//
// What routers do beyond their decisions: names, groups of the optimiser, balancing without a
// loss, and random routing.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Decision;
using mor::Index;

using Cpu = mor::Cpu<float>;

template <class A>
mor::Model<A, Cpu> make_model(Cpu& cpu, const mor::ArchitectureOptions<A>& options) {
    return mor::Model<A, Cpu>{cpu, small_config<A>(), options, 3};
}

}  // namespace

TEST_CASE("a router's name tells its parts") {
    CHECK(mor::ExpertChoice::name == "expert_choice");
    CHECK(mor::TokenChoice::name == "token_choice");
    CHECK(ExpertMlp::Router::name == "expert_choice.mlp");
    CHECK(ExpertAuxiliary::Router::name == "expert_choice.auxiliary_router");
    CHECK(TokenMlp::Router::name == "token_choice.mlp");
    CHECK(TokenLossFree::Router::name == "token_choice.loss_free");
}

TEST_CASE("the width of an MLP router is an option") {
    Cpu cpu{{.threads = 1}};
    mor::ArchitectureOptions<ExpertMlp> options{.router = {.network = {.width_multiple = 5}}};
    auto model = make_model<ExpertMlp>(cpu, options);
    const auto* const inner = find_parameter(model, "model.routers.1.0.weight");
    REQUIRE(inner != nullptr);
    CHECK(inner->shape() == std::vector<Index>{80, 16});
    CHECK(find_parameter(model, "model.routers.1.2.weight")->shape() == std::vector<Index>{1, 80});
    options.router.network.width_multiple = 0;
    CHECK(throws_with<ConfigError>([&] { make_model<ExpertMlp>(cpu, options); },
                                   {"width_multiple is 0"}));
}

TEST_CASE("an auxiliary router has a group and a rate of its own") {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<ExpertAuxiliary>(cpu, small_options<ExpertAuxiliary>());
    std::map<std::string, mor::OptimizerGroup> groups;
    model.visit_parameters([&](const mor::Parameter<Cpu>& p) { groups[p.name()] = p.group(); });
    CHECK(groups.at("model.routers.0.weight") == mor::OptimizerGroup::model);
    CHECK(groups.at("model.routers.0.auxiliary.0.weight") == mor::OptimizerGroup::auxiliary_router);
    CHECK(groups.at("model.norm.weight") == mor::OptimizerGroup::model);

    // The first update of AdamW moves every element with a gradient by the rate.
    const auto largest_move = [&](double factor) {
        auto fresh = make_model<ExpertAuxiliary>(cpu, small_options<ExpertAuxiliary>());
        const std::string name = "model.routers.1.auxiliary.0.weight";
        const auto before = mor::to_host(find_parameter(fresh, name)->value());
        const TokenText text = random_text(400);
        mor::Trainer trainer{
            fresh,
            text,
            {0, 400},
            {.steps = 1,
             .batch = 2,
             .sequence = 16,
             .optimizer = {
                 .learning_rate = 1e-3, .weight_decay = 0, .auxiliary_router_factor = factor}}};
        trainer.step();
        return max_difference(mor::to_host(find_parameter(fresh, name)->value()), before);
    };
    CHECK(largest_move(1) == doctest::Approx(1e-3).epsilon(0.01));
    CHECK(largest_move(7) == doctest::Approx(7e-3).epsilon(0.01));
    CHECK(largest_move(0) == 0);
}

TEST_CASE("loss-free balancing moves each bias by the rate, against the load") {
    Cpu cpu{{.threads = 1}};
    auto options = small_options<TokenLossFree>();
    options.router.balancing.rate = 0.125;
    auto model = make_model<TokenLossFree>(cpu, options);
    auto& bias = *find_parameter(model, "model.router.bias");
    const auto add_loads = [&](const std::vector<Index>& counts) {
        const auto loads = model.router_weights().balancing.loads();
        for (Index i = 0; i < loads.size(); ++i) {
            loads[i] += counts[static_cast<std::size_t>(i)];
        }
    };
    add_loads({4, 1, 1});
    add_loads({0, 1, 2});  // in all 4, 2, 3: the mean is 3
    model.after_update();
    CHECK(mor::to_host(bias.value()) == std::vector<float>{-0.125F, 0.125F, 0});
    add_loads({1, 1, 7});  // the earlier loads are forgotten
    model.after_update();
    CHECK(mor::to_host(bias.value()) == std::vector<float>{0, 0.25F, -0.125F});
}

TEST_CASE("training with loss-free balancing evens out the depths") {
    Cpu cpu{{.threads = 1}};
    auto options = small_options<TokenLossFree>();
    options.router.balancing.rate = 0.01;
    auto model = make_model<TokenLossFree>(cpu, options);
    mor::from_host(find_parameter(model, "model.router.bias")->value(), {0.5F, 0, -0.25F});
    const TokenText text = random_text(2'000);
    mor::Trainer trainer{model,
                         text,
                         {0, 2'000},
                         {.steps = 90,
                          .batch = 16,
                          .sequence = 32,
                          .optimizer = {.learning_rate = 0}}};  // only the biases move
    const auto imbalance = [](const mor::StepReport& report) {
        const auto& active = report.active_share;
        const std::vector<double> loads{active[0] - active[1], active[1] - active[2], active[2]};
        return *std::max_element(loads.begin(), loads.end()) * 3 - 1;
    };
    double first = 0;
    double last = 0;
    trainer.run([&](const mor::StepReport& report) {
        first = report.step == 1 ? imbalance(report) : first;
        last += report.step > 80 ? imbalance(report) / 10 : 0;
    });
    CHECK(first > 0.5);
    CHECK(last < 0.1);
}

TEST_CASE("while balancing warms up every token takes all steps, in training only") {
    Cpu cpu{{.threads = 1}};
    auto options = small_options<mor::MoRToken<>>();
    options.router.balancing_warmup = 10;
    const auto model = make_model<mor::MoRToken<>>(cpu, options);
    const Sequences sequences = random_sequences({40}, 29);
    mor::Context<Cpu> context{cpu};
    mor::Trace<mor::MoRToken<>, Cpu> trace;
    const auto depths = [&](Index training_step) {
        model.forward(context, sequences.batch(), {.training_step = training_step}, trace);
        const auto found = mor::token_depths(trace);
        return std::set<Index>(found.begin(), found.end());
    };
    CHECK(depths(1) == std::set<Index>{3});
    CHECK(depths(9) == std::set<Index>{3});
    CHECK(depths(10).size() > 1);
    CHECK(depths(0).size() > 1);
}

TEST_CASE("unweighted gating adds whole results, and leaves the gate without a gradient") {
    Cpu cpu{{.threads = 1}};
    auto options = small_options<mor::MoRExpert<>>();
    options.router.weighted = false;
    const auto model = make_model<mor::MoRExpert<>>(cpu, options);
    const Sequences sequences = random_sequences({12}, 29);
    mor::Context<Cpu> context{cpu};
    mor::Trace<mor::MoRExpert<>, Cpu> trace;
    model.forward(context, sequences.batch(), {}, trace);
    for (const auto& step : trace.steps) {
        for (const float weight : mor::to_host(step.weight)) {
            CHECK(weight == 1);
        }
    }
}

TEST_CASE("random routing keeps the capacity's share, another one for another seed") {
    Cpu cpu{{.threads = 1}};
    const Sequences sequences = random_sequences({24, 17, 60}, 29);
    const auto depths = [&](std::uint64_t seed, Decision decision, Index training_step) {
        auto options = small_options<RandomRouted>();
        options.router.seed = seed;
        const auto model = make_model<RandomRouted>(cpu, options);
        mor::Context<Cpu> context{cpu};
        mor::Trace<RandomRouted, Cpu> trace;
        model.forward(context, sequences.batch(),
                      {.decision = decision, .training_step = training_step}, trace);
        return mor::token_depths(trace);
    };
    const auto at_least = [](const std::vector<Index>& all, Index depth) {
        return std::count_if(all.begin(), all.end(), [=](Index d) { return d >= depth; });
    };
    const auto look_ahead = depths(1, Decision::look_ahead, 1);
    CHECK(at_least(look_ahead, 1) == 24 + 17 + 60);
    CHECK(at_least(look_ahead, 2) == 16 + 11 + 40);
    CHECK(at_least(look_ahead, 3) == 8 + 5 + 20);
    CHECK(look_ahead == depths(1, Decision::look_ahead, 1));
    CHECK(look_ahead != depths(1, Decision::look_ahead, 2));
    CHECK(look_ahead != depths(2, Decision::look_ahead, 1));
    const auto causal = depths(1, Decision::causal, 0);
    CHECK(at_least(causal, 2) == doctest::Approx(101 * 2.0 / 3).epsilon(0.2));
    CHECK(at_least(causal, 3) == doctest::Approx(101 / 3.0).epsilon(0.35));
}

TEST_CASE("capacities in the type are those of the same list") {
    using Fixed = mor::FixedCapacities<100, 67, 33>;
    const Fixed fixed{{}};
    const mor::CapacitySchedule listed{{.capacities = {1.0, 0.67, 0.33}}};
    for (const Index training_step : {Index{0}, Index{1}, Index{1'000}}) {
        for (Index step = 0; step < 3; ++step) {
            CHECK(fixed.capacity(step, 3, training_step) ==
                  listed.capacity(step, 3, training_step));
        }
    }
    CHECK(Fixed::name == "fixed_capacities.100.067.033");
    CHECK(mor::FixedCapacities<9, 9>::name == "fixed_capacities.009.009");

    struct ExpertFixed : mor::DefaultArchitecture {
        using Schedule = Fixed;
    };
    Cpu cpu{{.threads = 1}};
    const Sequences sequences = random_sequences({24, 17}, 29);
    const auto depths = [&]<class A>(const mor::ArchitectureOptions<A>& options) {
        const auto model = make_model<A>(cpu, options);
        mor::Context<Cpu> context{cpu};
        mor::Trace<A, Cpu> trace;
        model.forward(context, sequences.batch(), {}, trace);
        return mor::token_depths(trace);
    };
    const auto found = depths(mor::ArchitectureOptions<ExpertFixed>{});
    CHECK(found == depths(mor::ArchitectureOptions<mor::DefaultArchitecture>{
                       .schedule = {.capacities = {1.0, 0.67, 0.33}}}));
    CHECK(std::count(found.begin(), found.end(), 3) == 7 + 5);

    mor::ArchitectureOptions<ExpertFixed> two{};
    two.sharing.num_recursions = 2;
    CHECK(throws_with<ConfigError>([&] { make_model<ExpertFixed>(cpu, two); },
                                   {"3 capacities", "2 recursion steps"}));
}

TEST_CASE("options out of range are refused at construction") {
    const auto expert = [](mor::ExpertChoice::Options options) {
        return [options] { mor::ExpertChoice{options}; };
    };
    CHECK(throws_with<ConfigError>(expert({.gate = mor::GateFunction::softmax}), {"softmax"}));
    CHECK(throws_with<ConfigError>(expert({.temperature = 0}), {"temperature is 0"}));
    CHECK(throws_with<ConfigError>(expert({.temperature = INFINITY}), {"temperature is inf"}));
    CHECK(throws_with<ConfigError>(expert({.alpha = INFINITY}), {"alpha is inf"}));
    CHECK(throws_with<ConfigError>(expert({.alpha = 1e300}), {"alpha is 1e+300", "a float"}));
    CHECK(throws_with<ConfigError>(expert({.temperature = 1e-300}),
                                   {"temperature is 1e-300", "its inverse"}));
    CHECK(throws_with<ConfigError>(expert({.temperature = 1e-39}), {"temperature is 1e-39"}));
    CHECK_NOTHROW(expert({.alpha = 1e38, .temperature = 1e-38})());
    CHECK(throws_with<ConfigError>(expert({.z_coefficient = -1}), {"z_coefficient is -1"}));
    CHECK(throws_with<ConfigError>(expert({.causality = {.coefficient = -2}}),
                                   {"coefficient is -2"}));
    using Token = mor::TokenChoice;
    CHECK(throws_with<ConfigError>([] { Token{{.temperature = -1}}; }, {"temperature is -1"}));
    CHECK(throws_with<ConfigError>([] { Token{{.balancing_warmup = -1}}; },
                                   {"balancing_warmup is -1"}));
    CHECK(throws_with<ConfigError>([] { Token{{.balancing = {.coefficient = -1}}}; },
                                   {"coefficient is -1"}));
    CHECK(throws_with<ConfigError>([] { mor::RandomChoice{{.alpha = 0}}; }, {"alpha is 0"}));
    CHECK(throws_with<ConfigError>([] { mor::LossFreeBalancing{{.rate = -1}}; }, {"rate is -1"}));
}
