// SPDX-License-Identifier: Apache-2.0
//
// Passes that repeat become graphs, and compute what they compute without. Which backends are
// tested says graphs_under_test.hpp, found by the include path.
#include "graphs_under_test.hpp"
#include <mor/generate/generate.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
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

/// A model in training: what it computes. Plain ones are run to their end before there are graphs,
/// which are for the whole process.
template <class A, mor::Backend B>
struct Training {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    TokenText text = random_text(500);
    mor::Trainer<A, B, TokenText> trainer{model, text, text.all(), {.batch = 4, .sequence = 40}};

    explicit Training(B its_backend) : backend{its_backend} {}
    std::vector<double> losses(int steps) {
        std::vector<double> all;
        for (int step = 0; step < steps; ++step) {
            all.push_back(trainer.step().loss);
        }
        return all;
    }
};

template <class A>
struct PlainTraining {
    std::vector<double> losses;
    std::vector<float> weights;

    explicit PlainTraining(int steps) {
        Training<A, PlainBackend> training{PlainBackend{}};
        losses = training.losses(steps);
        weights = weights_of(training.model);
    }
    /// The losses of steps [first, last).
    [[nodiscard]] std::vector<double> part(int first, int last) const {
        return {losses.begin() + first, losses.begin() + last};
    }
};

template <class A, mor::Backend B>
struct Decoding {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::KeyValueCache<B> cache = model.make_cache(2);
    mor::Context<B> context{backend};
    mor::Trace<A, B> trace;
    std::uint64_t reads = 0;

    explicit Decoding(B its_backend) : backend{its_backend} {}
    std::vector<float> read(Index first, Index second) {
        const Sequences tokens = random_sequences({first, second}, 29, 5 + reads++);
        model.extend(context, tokens.batch(), cache, trace, {.logits = mor::Logits::last_rows});
        return to_host(trace.logits);
    }
    /// The logits after a prompt of two sequences, and after each of `tokens` more.
    std::vector<std::vector<float>> logits(int tokens) {
        std::vector<std::vector<float>> all{read(7, 3)};
        for (int token = 0; token < tokens; ++token) {
            all.push_back(read(1, 1));
        }
        return all;
    }
};

template <class A>
std::vector<std::vector<float>> plain_logits(int tokens) {
    return Decoding<A, PlainBackend>{PlainBackend{}}.logits(tokens);
}

/// What became of the lists of `tokens` decoding steps, after `warm` others; all are compared with
/// what is computed without graphs.
template <class A>
mor::cuda::CommandCounts decode_in_graphs(int warm, int tokens) {
    const auto plain = plain_logits<A>(warm + tokens);
    Decoding<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    CHECK(graphs.logits(warm) == std::vector(plain.begin(), plain.begin() + warm + 1));
    const auto before = counts();
    for (int token = 0; token < tokens; ++token) {
        CHECK(graphs.read(1, 1) == plain[static_cast<std::size_t>(warm + token + 1)]);
    }
    return since(before);
}

// Where the compiler cannot clear bytes that are nobody's, a list may miss its graph.
constexpr bool finds_graphs = mor::cuda::Commands::clears_padding;

}  // namespace

TEST_CASE_TEMPLATE("a training step of fixed counts is one graph", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::MiddleCycle>) {
    constexpr int warm = 4;  // memory moves, and a list must come twice
    constexpr int steps = 5;
    const PlainTraining<A> plain{warm + steps};
    Training<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    CHECK(graphs.losses(warm) == plain.part(0, warm));
    const auto before = counts();
    CHECK(graphs.losses(steps) == plain.part(warm, warm + steps));
    const auto made = since(before);
    CHECK(weights_of(graphs.model) == plain.weights);
    if (finds_graphs) {
        CHECK(made.lists == 0);
        CHECK(made.recorded == 0);
        CHECK(made.launches == steps);
    }
}

TEST_CASE_TEMPLATE("training with counts that vary computes the same", A,
                   mor::MoRToken<mor::MiddleCycle>, CyclePonder) {
    constexpr int steps = 6;
    const PlainTraining<A> plain{steps};
    Training<A, GraphBackend> graphs{backend_tests::make_graph_backend()};
    CHECK(graphs.losses(steps) == plain.losses);
    CHECK(weights_of(graphs.model) == plain.weights);
}

TEST_CASE_TEMPLATE("a decoding step without a router is one graph", A, mor::Vanilla,
                   mor::Recursive<mor::MiddleCycle>) {
    constexpr int tokens = 8;  // as many as the cache has room for
    const auto made = decode_in_graphs<A>(4, tokens);
    if (finds_graphs) {
        CHECK(made.lists == 0);
        CHECK(made.launches == tokens);
    }
}

TEST_CASE_TEMPLATE("a decoding step is a graph between two decisions of a router", A,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>, CyclePonder) {
    constexpr int tokens = 10;
    const auto made = decode_in_graphs<A>(10, tokens);
    // All rows take the first step, but of expert-choice: nobody is asked there. Token-choice asks
    // once, for the depths.
    constexpr int lists = std::is_same_v<A, mor::MoRExpert<mor::MiddleCycle>> ? 3 : 2;
    constexpr bool is_token_choice = std::is_same_v<A, mor::MoRToken<mor::Cycle>>;
    if constexpr (is_token_choice) {
        CHECK(made.launches + made.lists == lists * tokens);
    } else if (finds_graphs) {
        CHECK(made.launches >= lists * tokens);
    }
    if (finds_graphs) {  // another number of rows is another list, but there are few numbers
        CHECK(10 * made.lists < made.launches);
    }
}
