// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/evaluate.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <cmath>
#include <numbers>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Decision;
using mor::Index;

using Cpu = mor::Cpu<double>;
using A = mor::MoRExpert<mor::MiddleCycle>;

struct Fixture {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    mor::Context<Cpu> context{cpu};
};

/// The loss of one window, from softmax as it is written in books.
double loss_by_hand(const mor::Model<A, Cpu>& model, const TokenText& text, Index first,
                    Index length, Decision decision) {
    mor::WindowBatch window;
    window.append(text, first, length);
    const auto result = run_forward(model, {window.tokens, window.lengths}, decision);
    double loss = 0;
    for (Index row = 0; row < length; ++row) {
        const auto logits = rows_of(result.logits, 29, row, 1);
        double sum = 0;
        for (const double logit : logits) {
            sum += std::exp(logit);
        }
        const auto target = window.targets[static_cast<std::size_t>(row)];
        loss += std::log(sum) - logits[static_cast<std::size_t>(target)];
    }
    return loss;
}

}  // namespace

TEST_CASE("the mean loss is that of a loop over the windows") {
    Fixture f;
    const auto text = random_text(200);
    for (const Decision decision : {Decision::causal, Decision::look_ahead}) {
        double sum = 0;
        for (Index window = 0; window < 7; ++window) {
            sum += loss_by_hand(f.model, text, 50 + 10 * window, 10, decision);
        }
        sum += loss_by_hand(f.model, text, 120, 4, decision);  // 7 * 10 + 4 + 1 == 75
        const auto result = mor::evaluate(f.model, f.context, text, {50, 125},
                                          {.batch = 3, .sequence = 10, .decision = decision});
        CHECK(result.tokens == 74);
        CHECK(result.nats_per_token == doctest::Approx(sum / 74).epsilon(1e-12));
        CHECK(result.bits_per_token() == doctest::Approx(sum / 74 / std::log(2.0)).epsilon(1e-12));
    }
}

TEST_CASE("causal and look-ahead decisions give different losses, causal is the default") {
    Fixture f;
    const auto text = random_text(200);
    const auto loss = [&](const mor::EvaluationOptions& options) {
        return mor::evaluate(f.model, f.context, text, text.all(), options).nats_per_token;
    };
    const double causal = loss({.sequence = 10, .decision = Decision::causal});
    CHECK(loss({.sequence = 10}) == causal);
    CHECK(loss({.sequence = 10, .decision = Decision::look_ahead}) != causal);
}

TEST_CASE("the batch changes how much is computed at once, not the result") {
    Fixture f;
    const auto text = random_text(200);
    const auto loss = [&](Index batch) {
        return mor::evaluate(f.model, f.context, text, text.all(), {.batch = batch, .sequence = 10})
            .nats_per_token;
    };
    CHECK(loss(1) == doctest::Approx(loss(100)).epsilon(1e-12));
}

TEST_CASE("fewer windows than there are spread evenly over the range") {
    Fixture f;
    const auto text = random_text(131);
    const auto begins = [&](Index max_windows) {
        const auto reads = static_cast<std::ptrdiff_t>(text.reads().size());
        const auto result = mor::evaluate(f.model, f.context, text, {30, 131},
                                          {.batch = 2, .sequence = 10, .max_windows = max_windows});
        CHECK(result.tokens == std::min<Index>(10, max_windows) * 10);
        return std::vector<Index>(text.reads().begin() + reads, text.reads().end());
    };
    CHECK(begins(1) == std::vector<Index>{30});
    CHECK(begins(2) == std::vector<Index>{30, 80});
    CHECK(begins(4) == std::vector<Index>{30, 50, 80, 100});
    CHECK(begins(10) == begins(1'000));
}

TEST_CASE("evaluation changes neither weights nor gradients") {
    Fixture f;
    const auto before = weights_of(f.model);
    f.model.zero_gradients();
    const auto text = random_text(100);
    (void)mor::evaluate(f.model, f.context, text, text.all(), {.sequence = 10});
    CHECK(weights_of(f.model) == before);
    CHECK(gradient_norm(f.model) == 0);
}

TEST_CASE("a range without a window and impossible options are refused") {
    Fixture f;
    const TokenText text{std::vector<mor::TokenId>(50, 1), "corpus.txt"};
    const auto evaluating = [&](mor::TokenRange range, const mor::EvaluationOptions& options) {
        return [&f, &text, range, options] {
            (void)mor::evaluate(f.model, f.context, text, range, options);
        };
    };
    CHECK_NOTHROW(evaluating({0, 11}, {.sequence = 10})());
    CHECK(throws_with<ConfigError>(evaluating({0, 10}, {.sequence = 10}),
                                   {"corpus.txt", "10 tokens", "needs 11"}));
    CHECK(throws_with<ConfigError>(evaluating({7, 7}, {.sequence = 10}), {"corpus.txt"}));
    CHECK(throws_with<ConfigError>(evaluating({0, 50}, {.sequence = 0}), {"sequence"}));
    CHECK(throws_with<ConfigError>(evaluating({0, 50}, {.batch = 0}), {"batch"}));
    CHECK(throws_with<ConfigError>(evaluating({0, 50}, {.sequence = 10, .max_windows = 0}),
                                   {"max_windows"}));
}
