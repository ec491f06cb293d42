// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/ops/cross_entropy.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Index;
using mor::NumericError;
using mor::TrainerOptions;

using Cpu = mor::Cpu<double>;

template <class A>
mor::Model<A, Cpu> make_model(Cpu& cpu) {
    return mor::Model<A, Cpu>{cpu, small_config<A>(), small_options<A>(), 3};
}

/// The k-th read gives the k-th window, whatever offset is asked for.
class Script {
public:
    explicit Script(std::vector<std::vector<mor::TokenId>> windows)
        : windows_{std::move(windows)} {}
    [[nodiscard]] Index size() const { return 1'000; }
    [[nodiscard]] std::string name() const { return "script"; }
    void read(Index /*offset*/, std::span<mor::TokenId> out) const {
        const auto& window = windows_[next_++ % windows_.size()];
        std::copy_n(window.begin(), out.size(), out.begin());
    }

private:
    std::vector<std::vector<mor::TokenId>> windows_;
    mutable std::size_t next_ = 0;
};

}  // namespace

TEST_CASE("a clipped update is AdamW on the gradient scaled to the clip's norm") {
    using A = mor::Vanilla;
    const TrainerOptions options{.steps = 1,
                                 .batch = 2,
                                 .sequence = 12,
                                 .gradient_clip = 1e-3,
                                 .seed = 5,
                                 .optimizer = {.learning_rate = 0.1, .epsilon = 1e-4}};
    Cpu cpu{{.threads = 1}};
    const auto text = random_text(500);
    auto model = make_model<A>(cpu);
    mor::Trainer trainer{model, text, text.all(), options};
    const auto report = trainer.step();

    // The gradient by hand, on the weights before the update.
    auto twin = make_model<A>(cpu);
    const auto batch = mor::random_windows(text, text.all(), 2, 12, 5, 0);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    twin.zero_gradients();
    twin.forward(context, {batch.tokens, batch.lengths}, {}, trace);
    const auto dlogits = context.matrix(24, 29);
    double loss = 0;
    mor::ops::cross_entropy<Cpu>(context, trace.logits, {batch.targets.data(), {24}}, 1.0 / 24,
                                 dlogits, 1.0, {&loss, {1}});
    mor::backward(twin, context, trace, dlogits);
    CHECK(report.loss == doctest::Approx(loss / 24).epsilon(1e-13));
    const double norm = gradient_norm(twin);
    CHECK(report.gradient_norm == doctest::Approx(norm).epsilon(1e-13));
    REQUIRE(norm > 100 * options.gradient_clip);  // the clip makes a difference

    double squares = 0;
    std::vector<double> expected;
    twin.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        const double decay = parameter.decay() == mor::WeightDecay::yes ? 0.1 : 0.0;
        for (Index i = 0; i < parameter.size(); ++i) {
            const double g = parameter.gradient()[i] * (1e-3 / (norm + 1e-6));
            squares += g * g;
            const double value = parameter.value()[i];
            // In the first update the corrected moments are g and g^2.
            expected.push_back(value - 0.1 * (g / (std::abs(g) + 1e-4) + decay * value));
        }
    });
    CHECK(std::sqrt(squares) == doctest::Approx(1e-3).epsilon(1e-5));
    CHECK(max_difference(weights_of(model), expected) < 1e-13);
}

TEST_CASE("a gradient below the clip stays as it is") {
    using A = mor::Vanilla;
    Cpu cpu{{.threads = 1}};
    const auto text = random_text(500);
    std::vector<std::vector<double>> results;
    for (const double clip : {1e3, 1e6}) {
        auto model = make_model<A>(cpu);
        mor::Trainer trainer{
            model, text, text.all(), {.batch = 2, .sequence = 12, .gradient_clip = clip}};
        const auto report = trainer.step();
        REQUIRE(report.gradient_norm < 1e3);
        results.push_back(weights_of(model));
    }
    CHECK(results[0] == results[1]);
}

TEST_CASE_TEMPLATE("two micro-batches are one batch of twice the size", A, mor::Vanilla,
                   mor::Recursive<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>) {
    std::vector<std::vector<mor::TokenId>> windows;
    for (std::uint64_t w = 0; w < 12; ++w) {
        windows.push_back(random_sequences({17}, 29, 100 + w).tokens);
    }
    // A large epsilon: AdamW would make much of rounding where a gradient is almost zero.
    const mor::AdamWOptions optimizer{.epsilon = 1e-3};
    Cpu cpu{{.threads = 1}};
    const auto run = [&](Index batch, Index micro_batches, std::vector<mor::StepReport>& reports) {
        auto model = make_model<A>(cpu);
        const Script script{windows};
        mor::Trainer trainer{model,
                             script,
                             {0, 1'000},
                             {.batch = batch,
                              .sequence = 16,
                              .micro_batches = micro_batches,
                              .optimizer = optimizer}};
        for (int step = 0; step < 3; ++step) {
            reports.push_back(trainer.step());
        }
        return weights_of(model);
    };
    std::vector<mor::StepReport> split;
    std::vector<mor::StepReport> whole;
    const auto split_weights = run(2, 2, split);
    const auto whole_weights = run(4, 1, whole);
    CHECK(max_difference(split_weights, whole_weights) < 1e-11);
    for (std::size_t step = 0; step < 3; ++step) {
        CHECK(split[step].tokens == 64);
        CHECK(whole[step].tokens == 64);
        CHECK(split[step].loss == doctest::Approx(whole[step].loss).epsilon(1e-11));
        CHECK(split[step].gradient_norm ==
              doctest::Approx(whole[step].gradient_norm).epsilon(1e-10));
        REQUIRE(split[step].active_share.size() == whole[step].active_share.size());
        for (std::size_t r = 0; r < split[step].active_share.size(); ++r) {
            CHECK(split[step].active_share[r] == doctest::Approx(whole[step].active_share[r]));
        }
        REQUIRE(split[step].losses.size() == whole[step].losses.size());
        for (std::size_t i = 0; i < split[step].losses.size(); ++i) {
            CHECK(split[step].losses[i].name == whole[step].losses[i].name);
            CHECK(split[step].losses[i].value ==
                  doctest::Approx(whole[step].losses[i].value).epsilon(1e-11));
        }
    }
}

TEST_CASE("reports count steps, tokens and operations, and name the learning rate") {
    using A = mor::MoRExpert<mor::MiddleCycle>;
    Cpu cpu{{.threads = 1}};
    auto model = make_model<A>(cpu);
    const auto text = random_text(500);
    mor::Trainer trainer{model,
                         text,
                         text.all(),
                         {.steps = 4,
                          .batch = 2,
                          .sequence = 12,
                          .micro_batches = 3,
                          .optimizer = {.learning_rate = 0.01},
                          .schedule = {.warmup_steps = 2, .cooldown_steps = 2}}};
    const auto before = weights_of(model);
    std::vector<double> rates;
    double flops = 0;
    trainer.run([&](const mor::StepReport& report) {
        rates.push_back(report.learning_rate);
        CHECK(report.step == std::ssize(rates));
        CHECK(report.tokens == 2 * 12 * 3);
        CHECK(report.flops > 0);
        CHECK(report.seconds > 0);
        CHECK(report.active_share.size() == 3);
        CHECK(report.active_share[0] == doctest::Approx(1));
        CHECK(report.active_share[1] == doctest::Approx(8.0 / 12));
        CHECK(report.active_share[2] == doctest::Approx(4.0 / 12));
        REQUIRE(report.losses.size() == 1);
        CHECK(report.losses[0].name == "selection");
        CHECK(report.losses[0].value > 0);
        flops += report.flops;
        if (report.step == 1) {
            CHECK(weights_of(model) == before);  // the first factor of a warm-up is 0
        }
        return true;
    });
    CHECK(rates == std::vector<double>{0, 0.005, 0.01, 0.005});
    CHECK(trainer.completed_steps() == 4);
    CHECK(trainer.context().flops() == doctest::Approx(flops));

    int more = 0;
    trainer.run([&](const mor::StepReport&) { return ++more > 0; });
    CHECK(more == 0);
}

TEST_CASE("a callback ends the run") {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<mor::Vanilla>(cpu);
    const auto text = random_text(100);
    mor::Trainer trainer{model, text, text.all(), {.steps = 100, .batch = 1, .sequence = 5}};
    trainer.run([](const mor::StepReport& report) { return report.step < 3; });
    CHECK(trainer.completed_steps() == 3);
    trainer.run([](const mor::StepReport& report) { return report.step < 5; });
    CHECK(trainer.completed_steps() == 5);
}

TEST_CASE_TEMPLATE("a loss that is not finite names the step and leaves the weights", A,
                   mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<A>(cpu);
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 2, .sequence = 12}};
    trainer.step();
    trainer.step();
    for (const double poison :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        auto* const norm = find_parameter(model, "model.norm.weight");
        const double sound = norm->value()[3];
        norm->value()[3] = poison;
        auto before = weights_of(model);
        const auto moments = moments_of(trainer.optimizer());
        CHECK(throws_with<NumericError>([&] { trainer.step(); }, {"step 3", "loss"}));
        auto after = weights_of(model);
        const auto is_nan = [](double x) { return std::isnan(x); };
        std::replace_if(before.begin(), before.end(), is_nan, -77.0);
        std::replace_if(after.begin(), after.end(), is_nan, -77.0);
        CHECK(after == before);
        CHECK(moments_of(trainer.optimizer()) == moments);
        CHECK(trainer.completed_steps() == 2);
        norm->value()[3] = sound;
    }
    CHECK(trainer.step().step == 3);  // a repaired model trains on
}

TEST_CASE("a learning rate far too large ends in a NumericError, not in silence") {
    mor::Cpu<float> cpu{{.threads = 1}};
    mor::Model<mor::Vanilla, mor::Cpu<float>> model{cpu, small_config<mor::Vanilla>(), {}, 3};
    const auto text = random_text(500);
    mor::Trainer trainer{model,
                         text,
                         text.all(),
                         {.batch = 2, .sequence = 12, .optimizer = {.learning_rate = 1e30}}};
    CHECK_THROWS_AS(trainer.run([](const mor::StepReport&) { return true; }), NumericError);
    CHECK(trainer.completed_steps() < 10);
}

TEST_CASE_TEMPLATE("memory is taken in the first steps only", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<A>(cpu);
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 8, .sequence = 60}};
    trainer.step();
    CHECK(trainer.context().arena().allocations() > 1);  // it grew in pieces
    trainer.step();                                      // and begins by making one of them
    const Index allocations = trainer.context().arena().allocations();
    for (int step = 0; step < 4; ++step) {
        trainer.step();
    }
    CHECK(trainer.context().arena().allocations() == allocations);
}

TEST_CASE("a tied head stays one storage and keeps its embedding's values") {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<mor::Vanilla>(cpu);
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 2, .sequence = 12}};
    trainer.step();
    trainer.step();
    CHECK(model.embedding().is_tied());
    CHECK(find_parameter(model, "lm_head.weight") == nullptr);
    // logits = normed * table^T with the trained table
    mor::Context<Cpu> context{cpu};
    mor::Trace<mor::Vanilla, Cpu> trace;
    const auto sequences = random_sequences({3}, 29);
    model.forward(context, sequences.batch(), {}, trace);
    const auto table = find_parameter(model, "model.embed_tokens.weight")->value_matrix();
    double dot = 0;
    for (Index i = 0; i < 16; ++i) {
        dot += trace.normed(2, i) * table(7, i);
    }
    CHECK(trace.logits(2, 7) == doctest::Approx(dot).epsilon(1e-12));
}

TEST_CASE("impossible options are refused before anything is computed") {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<mor::Vanilla>(cpu);
    const TokenText text{std::vector<mor::TokenId>(50, 1), "corpus.txt"};
    const auto constructing = [&](const TrainerOptions& options, mor::TokenRange range) {
        return [&model, &text, options, range] {
            const mor::Trainer trainer{model, text, range, options};
        };
    };
    const mor::TokenRange all{0, 50};
    CHECK_NOTHROW(constructing({.steps = 0, .sequence = 49}, all)());
    CHECK(throws_with<ConfigError>(constructing({.sequence = 50}, all),
                                   {"corpus.txt", "50 tokens", "needs 51"}));
    CHECK(throws_with<ConfigError>(constructing({.sequence = 65}, all),
                                   {"sequence is 65", "max_positions 64"}));
    CHECK(throws_with<ConfigError>(constructing({.sequence = 5}, {0, 51}),
                                   {"corpus.txt", "50 tokens", "[0, 51)"}));
    CHECK(throws_with<ConfigError>(constructing({.sequence = 5}, {-1, 50}), {"corpus.txt"}));
    CHECK(throws_with<ConfigError>(constructing({.steps = -1}, all), {"steps", "-1"}));
    CHECK(throws_with<ConfigError>(constructing({.batch = 0}, all), {"batch", "0"}));
    CHECK(throws_with<ConfigError>(constructing({.sequence = 0}, all), {"sequence", "0"}));
    CHECK(throws_with<ConfigError>(constructing({.micro_batches = 0}, all), {"micro_batches"}));
    CHECK(throws_with<ConfigError>(constructing({.gradient_clip = 0}, all), {"gradient_clip"}));
    CHECK(throws_with<ConfigError>(constructing({.gradient_clip = std::nan("")}, all), {"nan"}));
    CHECK(throws_with<ConfigError>(constructing({.schedule = {.warmup_steps = -1}}, all),
                                   {"warmup_steps", "-1"}));
    CHECK(throws_with<ConfigError>(constructing({.optimizer = {.beta1 = 2}}, all), {"beta1"}));
}

TEST_CASE("a token outside the vocabulary stops the run, and the weights stay") {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<mor::Vanilla>(cpu);
    const auto before = weights_of(model);
    const TokenText text{std::vector<mor::TokenId>(50, 29)};
    mor::Trainer trainer{model, text, text.all(), {.sequence = 5}};
    CHECK(throws_with<mor::ShapeError>([&] { trainer.step(); }, {"29", "vocabulary"}));
    CHECK(weights_of(model) == before);
}

TEST_CASE("steps can be planned again until a cool-down begins, and the rate never rises again") {
    using A = mor::Vanilla;
    Cpu cpu{{.threads = 1}};
    const auto text = random_text(300);
    auto model = make_model<A>(cpu);
    mor::Trainer trainer{model,
                         text,
                         text.all(),
                         {.steps = 8,
                          .batch = 1,
                          .sequence = 8,
                          .schedule = {.warmup_steps = 2, .cooldown_steps = 3}}};
    std::vector<double> rates;
    trainer.run([&](const mor::StepReport& report) {
        rates.push_back(report.learning_rate);
        if (report.step == 5) {
            trainer.plan_steps(12);
        }
        return true;
    });
    CHECK(rates.size() == 12);
    CHECK(std::is_sorted(rates.begin() + 2, rates.end(), std::greater<>{}));
    CHECK(rates[8] == rates[2]);
    CHECK(rates[11] < rates[8]);
    CHECK_THROWS_AS(trainer.plan_steps(20), ConfigError);

    auto cosine_model = make_model<A>(cpu);
    mor::Trainer cosine{cosine_model,
                        text,
                        text.all(),
                        {.sequence = 8, .schedule = {.shape = mor::ScheduleShape::cosine}}};
    CHECK_THROWS_AS(cosine.plan_steps(20), ConfigError);
}

TEST_CASE("a second backward of the same trace gives the same gradients") {
    using A = mor::MoRExpert<>;
    Cpu cpu{{.threads = 1}};
    auto model = make_model<A>(cpu);
    const auto text = random_text(100);
    const auto batch = mor::random_windows(text, text.all(), 2, 12, 5, 0);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.forward(context, {batch.tokens, batch.lengths}, {}, trace);
    const auto dlogits = context.matrix(24, 29);
    double loss = 0;
    mor::ops::cross_entropy<Cpu>(context, trace.logits, {batch.targets.data(), {24}}, 1.0, dlogits,
                                 1.0, {&loss, {1}});
    std::vector<std::vector<double>> gradients;
    for (int pass = 0; pass < 2; ++pass) {
        model.zero_gradients();
        mor::backward(model, context, trace, dlogits);
        gradients.emplace_back();
        model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
            const auto values = to_host(parameter.gradient());
            gradients.back().insert(gradients.back().end(), values.begin(), values.end());
        });
    }
    CHECK(gradients[0] == gradients[1]);
}
