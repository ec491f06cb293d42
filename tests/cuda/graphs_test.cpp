// SPDX-License-Identifier: Apache-2.0
//
// Passes that repeat become graphs, and compute what they compute without. Which backends are
// tested says graphs_under_test.hpp, found by the include path.
#include "graphs_under_test.hpp"
#include <mor/generate/generate.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <vector>

namespace {

using namespace mor::test;
using backend_tests::GraphBackend;
using backend_tests::PlainBackend;
using mor::Index;

mor::cuda::CommandCounts counts() { return GraphBackend::Space::commands(); }

/// What happened to lists of commands since `before`.
mor::cuda::CommandCounts since(const mor::cuda::CommandCounts& before) {
    const mor::cuda::CommandCounts now = counts();
    return {.lists = now.lists - before.lists,
            .recorded = now.recorded - before.recorded,
            .launches = now.launches - before.launches};
}

template <class A, mor::Backend B>
struct Training {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    TokenText text = random_text(500);
    mor::Trainer<A, B, TokenText> trainer{model, text, text.all(), {.batch = 4, .sequence = 40}};

    explicit Training(B its_backend) : backend{its_backend} {}
    double step() { return trainer.step().loss; }
};

template <class A, mor::Backend B>
struct Decoding {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::KeyValueCache<B> cache = model.make_cache(2);
    mor::Context<B> context{backend};
    mor::Trace<A, B> trace;
    int reads = 0;

    explicit Decoding(B its_backend) : backend{its_backend} {}
    std::vector<float> read(Index first, Index second) {
        const Sequences tokens = random_sequences({first, second}, 29, 5 + reads++);
        model.extend(context, tokens.batch(), cache, trace, {.logits = mor::Logits::last_rows});
        return to_host(trace.logits);
    }
};

}  // namespace

TEST_CASE_TEMPLATE("a training step of fixed counts is graphs alone", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>) {
    Training<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    Training<A, PlainBackend> plain{PlainBackend{}};
    constexpr int warm = 4;  // memory moves, and a list must come twice
    for (int step = 0; step < warm; ++step) {
        CHECK(graphs.step() == plain.step());
    }
    const auto before = counts();
    constexpr int steps = 5;
    for (int step = 0; step < steps; ++step) {
        CHECK(graphs.step() == plain.step());
    }
    const auto made = since(before);
    CHECK(made.lists == 0);
    CHECK(made.recorded == 0);
    CHECK(made.launches == steps);
    CHECK(weights_of(graphs.model) == weights_of(plain.model));
}

TEST_CASE_TEMPLATE("training with counts that vary computes the same", A,
                   mor::MoRToken<mor::MiddleCycle>, CyclePonder) {
    Training<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    Training<A, PlainBackend> plain{PlainBackend{}};
    for (int step = 0; step < 6; ++step) {
        CHECK(graphs.step() == plain.step());
    }
    CHECK(weights_of(graphs.model) == weights_of(plain.model));
}

TEST_CASE_TEMPLATE("a decoding step without a router is one graph", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>) {
    Decoding<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    Decoding<A, PlainBackend> plain{PlainBackend{}};
    CHECK(graphs.read(7, 3) == plain.read(7, 3));
    for (int token = 0; token < 4; ++token) {
        CHECK(graphs.read(1, 1) == plain.read(1, 1));
    }
    const auto before = counts();
    constexpr int tokens = 8;  // as many as the cache has room for
    for (int token = 0; token < tokens; ++token) {
        CHECK(graphs.read(1, 1) == plain.read(1, 1));
    }
    const auto made = since(before);
    CHECK(made.lists == 0);
    CHECK(made.launches == tokens);
}

TEST_CASE_TEMPLATE("a decoding step is a graph between two decisions of a router", A,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>, CyclePonder) {
    Decoding<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    Decoding<A, PlainBackend> plain{PlainBackend{}};
    CHECK(graphs.read(7, 3) == plain.read(7, 3));
    const auto before = counts();
    for (int token = 0; token < 20; ++token) {
        CHECK(graphs.read(1, 1) == plain.read(1, 1));
    }
    const auto made = since(before);
    CHECK(made.launches > 0);
}
