// SPDX-License-Identifier: Apache-2.0
//
// The loss in pieces of rows against the same from the logits of all rows.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/model/backward.hpp>
#include <mor/ops/cross_entropy.hpp>
#include <mor/train/language_model_loss.hpp>

#include <doctest/doctest.h>
#include <unit/model/training_pass.hpp>
#include <unit/train/token_text.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;

using Cpu = mor::Cpu<double>;

const Sequences sequences = random_sequences({9, 1, 13, 14}, 29);
constexpr Index num_rows = 37;
constexpr double factor = 0.25;

template <class A>
struct Pass {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model;
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    std::vector<mor::TokenId> targets = random_targets(sequences, 29);
    double loss = 1;  // to be added to

    explicit Pass(bool tied) : model{cpu, config(tied), small_options<A>(), 3} {
        model.zero_gradients();
    }
    static mor::ModelConfig config(bool tied) {
        auto sizes = small_config<A>();
        sizes.tie_embeddings = tied;
        return sizes;
    }
    mor::SumView<Cpu> sum() { return {&loss, {1}}; }

    void forward(bool computes_logits) {
        model.forward(context, sequences.batch(),
                      {.training_step = 1, .computes_logits = computes_logits}, trace);
    }
    void in_pieces(Index rows_at_once) {
        forward(false);
        const auto dnormed = context.matrix(num_rows, 16);
        language_model_loss(model, context, trace, targets, factor, sum(), dnormed, rows_at_once);
        backward_below_head(model, context, trace, dnormed);
    }
    void whole() {
        forward(true);
        const auto dlogits = context.matrix(num_rows, 29);
        mor::ops::cross_entropy<Cpu>(context, trace.logits, {targets.data(), {num_rows}}, factor,
                                     dlogits, factor, sum());
        backward(model, context, trace, dlogits);
    }
    std::vector<double> gradients() const {
        std::vector<double> all;
        model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
            const auto values = to_host(parameter.gradient());
            all.insert(all.end(), values.begin(), values.end());
        });
        return all;
    }
};

}  // namespace

TEST_CASE_TEMPLATE("a piece of all rows has the bits of the whole", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>) {
    for (const bool tied : {true, false}) {
        CAPTURE(tied);
        Pass<A> whole{tied};
        whole.whole();
        for (const Index rows_at_once : {num_rows, mor::head_rows_at_once}) {
            Pass<A> piece{tied};
            piece.in_pieces(rows_at_once);
            CHECK(piece.loss == whole.loss);
            CHECK(piece.gradients() == whole.gradients());
            CHECK(piece.context.flops() == whole.context.flops());
        }
    }
}

TEST_CASE_TEMPLATE("pieces of any size give the loss and the gradients of the whole", A,
                   mor::Vanilla, mor::MoRExpert<mor::MiddleCycle>) {
    for (const bool tied : {true, false}) {
        CAPTURE(tied);
        Pass<A> whole{tied};
        whole.whole();
        for (const Index rows_at_once : {1, 5, 18, 36}) {
            CAPTURE(rows_at_once);
            Pass<A> pieces{tied};
            pieces.in_pieces(rows_at_once);
            CHECK(pieces.loss == doctest::Approx(whole.loss).epsilon(1e-14));
            CHECK(max_difference(pieces.gradients(), whole.gradients()) < 1e-12);
            CHECK(pieces.context.flops() == whole.context.flops());
        }
    }
}

TEST_CASE("the loss alone is the same and leaves the gradients alone") {
    using A = mor::MoRExpert<>;
    Pass<A> both{true};
    both.in_pieces(10);
    Pass<A> alone{true};
    alone.forward(false);
    const auto& model = alone.model;
    for (const Index rows_at_once : {10, 100}) {
        alone.loss = 1;
        language_model_loss(model, alone.context, alone.trace, alone.targets, factor, alone.sum(),
                            rows_at_once);
        CHECK(alone.loss == doctest::Approx(both.loss).epsilon(1e-14));
    }
    CHECK(gradient_norm(model) == 0);
}

TEST_CASE("of logits no more rows are held than a piece has") {
    using A = mor::Vanilla;
    constexpr Index vocabulary = 10'000;
    constexpr Index rows_at_once = 10;
    Cpu cpu{{.threads = 1}};
    auto config = small_config<A>();
    config.vocab_size = vocabulary;
    mor::Model<A, Cpu> model{cpu, config};
    const Sequences tokens = random_sequences({60, 60, 60, 60}, vocabulary);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.forward(context, tokens.batch(), {.computes_logits = false}, trace);
    const auto dnormed = context.matrix(240, 16);
    const auto used = context.arena().mark();
    const auto held = context.arena().capacity_bytes();
    double loss = 0;
    language_model_loss(model, context, trace, tokens.tokens, 1.0, {&loss, {1}}, dnormed,
                        rows_at_once);
    constexpr auto bytes_of_row = static_cast<std::size_t>(vocabulary) * sizeof(double);
    // A chunk of the arena is at least 1 MiB, and as large as half of what it has.
    CHECK(context.arena().capacity_bytes() <=
          held + std::max({std::size_t{1} << 20, held / 2, 2 * rows_at_once * bytes_of_row}));
    CHECK(context.arena().capacity_bytes() < 240 * bytes_of_row / 2);
    CHECK(context.arena().mark().chunk == used.chunk);
    CHECK(context.arena().mark().used == used.used);
}

TEST_CASE("a negative target is ignored, and the loss is added with its factor") {
    using A = mor::Vanilla;
    Pass<A> pass{true};
    pass.forward(true);
    pass.targets.assign(num_rows, -1);
    pass.targets[20] = 7;
    const auto logits = rows_of(to_host(pass.trace.logits), 29, 20, 1);
    double exponentials = 0;
    for (const double logit : logits) {
        exponentials += std::exp(logit);
    }
    language_model_loss(pass.model, pass.context, pass.trace, pass.targets, 0.5, pass.sum(), 8);
    CHECK(pass.loss == doctest::Approx(1 + 0.5 * (std::log(exponentials) - logits[7])));
}

TEST_CASE("impossible arguments are refused before anything is added") {
    using A = mor::Vanilla;
    Pass<A> pass{true};
    pass.forward(false);
    const auto adding = [&pass](std::vector<mor::TokenId> targets, Index rows_at_once = 8) {
        return [&pass, targets, rows_at_once] {
            language_model_loss(pass.model, pass.context, pass.trace, targets, 1.0, pass.sum(),
                                rows_at_once);
        };
    };
    auto outside = pass.targets;
    outside.back() = 29;
    CHECK(throws_with<mor::ShapeError>(adding(outside), {"target 29", "vocabulary of 29"}));
    CHECK(throws_with<mor::ShapeError>(adding({1, 2}), {"2 targets", "37 rows"}));
    CHECK(throws_with<mor::ConfigError>(adding(pass.targets, 0), {"rows_at_once is 0"}));
    const auto narrow = pass.context.matrix(num_rows, 15);
    const auto with_gradient = [&] {
        language_model_loss(pass.model, pass.context, pass.trace, pass.targets, 1.0, pass.sum(),
                            narrow);
    };
    CHECK(throws_with<mor::ShapeError>(with_gradient, {"dnormed", "[37, 15]", "[37, 16]"}));
    CHECK(pass.loss == 1);
    CHECK(gradient_norm(pass.model) == 0);
}
