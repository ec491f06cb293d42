// SPDX-License-Identifier: Apache-2.0
//
// What a token's logits may depend on: the tokens before it in its sequence, and nothing else.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <vector>

namespace {

using namespace mor::test;
using mor::Decision;
using mor::Index;
using mor::TokenId;

// The loops of the reference treat every row alike, so its results can be compared bit by bit even
// when the number of active rows changes.
using Exact = mor::Reference<float>;
using Cpu = mor::Cpu<float>;

template <class A, mor::Backend B>
mor::Model<A, B> make_model(B& backend) {
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    fill_zero_parameters(model);
    return model;
}

/// Counts, over changes of single tokens, the logits of other rows that change: of earlier rows of
/// the same sequence and of the other sequence.
struct Changes {
    Index earlier = 0;
    Index elsewhere = 0;
    Index own = 0;
};

template <class A>
Changes changes_after_replacement(Decision decision) {
    Exact backend;
    const auto model = make_model<A>(backend);
    const Index vocabulary = model.config().vocab_size;
    const Sequences sequences = random_sequences({10, 14}, vocabulary, 5);
    const auto before = run_forward(model, sequences, decision);
    Changes changes;
    for (const std::size_t row : {4U, 9U, 12U, 17U, 22U, 23U}) {
        Sequences changed = sequences;
        changed.tokens[row] = static_cast<TokenId>((changed.tokens[row] + 7) % vocabulary);
        const auto after = run_forward(model, changed, decision);
        for (std::size_t other = 0; other < 24; ++other) {
            const auto at = static_cast<Index>(other);
            const bool differs = rows_of(before.logits, vocabulary, at, 1) !=
                                     rows_of(after.logits, vocabulary, at, 1) ||
                                 before.depths[other] != after.depths[other];
            Index& count = (other < 10) != (row < 10) ? changes.elsewhere
                           : other < row              ? changes.earlier
                                                      : changes.own;
            count += differs ? 1 : 0;
        }
    }
    return changes;
}

}  // namespace

TEST_CASE_TEMPLATE("a later token never changes an earlier logit, not by one bit", A,
                   MOR_ALL_ARCHITECTURES, MOR_SHARED_CACHE_ARCHITECTURES, MOR_HYBRID_ARCHITECTURES,
                   MOR_ROUTER_ARCHITECTURES, MOR_RELAXED_ARCHITECTURES, MOR_HALTING_ARCHITECTURES,
                   MOR_PATTERN_CACHE_ARCHITECTURES) {
    const Changes changes = changes_after_replacement<A>(Decision::causal);
    CHECK(changes.earlier == 0);
    CHECK(changes.elsewhere == 0);
    CHECK(changes.own > 0);  // of the token itself and of later ones
}

TEST_CASE_TEMPLATE("looking ahead, expert choice lets a later token change earlier logits", A,
                   mor::MoRExpert<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>) {
    const Changes changes = changes_after_replacement<A>(Decision::look_ahead);
    CHECK(changes.earlier > 0);
    CHECK(changes.elsewhere == 0);  // but never those of another sequence
}

TEST_CASE_TEMPLATE("token choice is causal in every mode", A, mor::MoRToken<mor::Cycle>,
                   mor::MoRToken<mor::MiddleCycle>) {
    CHECK(changes_after_replacement<A>(Decision::look_ahead).earlier == 0);
}

TEST_CASE_TEMPLATE("the logits of a sequence do not depend on its neighbours in the batch", A,
                   MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 2}};
    const auto model = make_model<A>(cpu);
    const Index vocabulary = model.config().vocab_size;
    const Sequences packed = random_sequences({10, 1, 64, 0, 23}, vocabulary, 5);
    for (const Decision decision : {Decision::look_ahead, Decision::causal}) {
        const auto together = run_forward(model, packed, decision);
        for (std::size_t s = 0; s < packed.lengths.size(); ++s) {
            if (packed.lengths[s] == 0) {
                continue;
            }
            const Sequences single{packed.piece(s, 0, packed.lengths[s]), {packed.lengths[s]}};
            const auto alone = run_forward(model, single, decision);
            const Index first = packed.offset(s);
            CHECK(max_difference(alone.logits, rows_of(together.logits, vocabulary, first,
                                                       packed.lengths[s])) < 1e-4);
            CHECK(alone.depths ==
                  std::vector<Index>(together.depths.begin() + first,
                                     together.depths.begin() + first + packed.lengths[s]));
        }
    }
}

TEST_CASE_TEMPLATE("the processor's backend computes what the reference does", A,
                   MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 2}};
    Exact exact;
    const auto model = make_model<A>(cpu);
    const auto reference = make_model<A>(exact);
    const Sequences sequences = random_sequences({10, 1, 64, 0, 23}, model.config().vocab_size, 5);
    for (const Decision decision : {Decision::look_ahead, Decision::causal}) {
        const auto actual = run_forward(model, sequences, decision);
        const auto expected = run_forward(reference, sequences, decision);
        CHECK(max_difference(actual.logits, expected.logits) < 1e-4);
        CHECK(actual.depths == expected.depths);
    }
}
