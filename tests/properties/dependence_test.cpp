// SPDX-License-Identifier: Apache-2.0
//
// What the output of a token depends on, for random models and batches: not on how sequences are
// packed, ordered or cut into pieces, and not on later tokens.
#include <properties/random_models.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#define MOR_ROUTED_ARCHITECTURES                                                                \
    mor::MoRExpert<mor::MiddleCycle>, mor::test::ExpertShared, mor::MoRToken<mor::MiddleCycle>, \
        mor::test::RandomRouted, mor::test::ExpertHybrid, mor::test::CyclePonder,               \
        mor::test::MiddleExitGate, mor::test::ExpertAuxiliary, mor::test::TokenLossFree,        \
        mor::test::IndependentSteps, mor::test::SandwichRandomDepth

namespace {

using namespace mor::test;
using mor::Decision;
using mor::Index;
using mor::TokenId;

/// A batch without any sequence is legal, and so are sequences without tokens.
std::vector<Index> any_small_lengths() { return any_lengths(0, 5, 12); }

/// Looking ahead, random choice draws for each place in the batch: its results stay with the place,
/// not with the sequence.
template <class A>
Decision any_decision_about_sequences() {
    return std::is_same_v<typename A::Router, mor::RandomChoice> ? Decision::causal
                                                                 : any_decision();
}

/// Only what compares tokens with later ones looks ahead: expert choice, and random choice, which
/// draws as many. All other routers are causal in every mode.
template <class A>
Decision any_causal_decision() {
    const std::string_view router = A::Router::name;
    const bool looks_ahead =
        router.starts_with("expert_choice") || router == mor::RandomChoice::name;
    return looks_ahead ? Decision::causal : any_decision();
}

/// The numbers 0 ... count - 1 in a random order.
std::vector<std::size_t> any_order(std::size_t count) {
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t left = count; left > 1; --left) {
        const auto other = static_cast<std::size_t>(
            *uniform(0, static_cast<Index>(left) - 1).as("place to swap with"));
        std::swap(order[left - 1], order[other]);
    }
    return order;
}

Sequences in_order(const Sequences& sequences, const std::vector<std::size_t>& order) {
    Sequences result;
    for (const std::size_t s : order) {
        const auto tokens = sequences.piece(s, 0, sequences.lengths[s]);
        result.tokens.insert(result.tokens.end(), tokens.begin(), tokens.end());
        result.lengths.push_back(sequences.lengths[s]);
    }
    return result;
}

/// How far each sequence goes in one call: pieces of any length, 0 too, up to what is left.
std::vector<Index> any_pieces(const std::vector<Index>& lengths, const std::vector<Index>& done) {
    std::vector<Index> pieces;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        pieces.push_back(*uniform(0, lengths[s] - done[s]).as("piece"));
    }
    return pieces;
}

/// Calls that together consume every sequence; the last one takes what the others left.
std::vector<std::vector<Index>> any_calls(const std::vector<Index>& lengths) {
    std::vector<std::vector<Index>> calls;
    std::vector<Index> done(lengths.size(), 0);
    const Index random_calls = *uniform(0, 5).as("calls before the last");
    for (Index call = 0; call < random_calls; ++call) {
        calls.push_back(any_pieces(lengths, done));
        std::transform(done.begin(), done.end(), calls.back().begin(), done.begin(), std::plus<>{});
    }
    calls.emplace_back();
    std::transform(lengths.begin(), lengths.end(), done.begin(), std::back_inserter(calls.back()),
                   std::minus<>{});
    return calls;
}

/// What one call of decoding shall give: the rows of the full pass from `done` on.
struct Continuation {
    Sequences piece;
    Result<double> expected;
};

Continuation continuation(const Sequences& sequences, const Result<double>& full, Index vocabulary,
                          const std::vector<Index>& done, const std::vector<Index>& pieces) {
    Continuation result{{{}, pieces}, {}};
    for (std::size_t s = 0; s < pieces.size(); ++s) {
        const auto tokens = sequences.piece(s, done[s], pieces[s]);
        const auto rows = rows_of(full, vocabulary, sequences.offset(s) + done[s], pieces[s]);
        auto& [piece, expected] = result;
        piece.tokens.insert(piece.tokens.end(), tokens.begin(), tokens.end());
        expected.logits.insert(expected.logits.end(), rows.logits.begin(), rows.logits.end());
        expected.depths.insert(expected.depths.end(), rows.depths.begin(), rows.depths.end());
    }
    return result;
}

}  // namespace

TEST_CASE_TEMPLATE("a packed batch gives each sequence what it gets alone", A,
                   MOR_ROUTED_ARCHITECTURES) {
    Processor processor{{.threads = 1}};
    check_property<A>("packed = alone", [&] {
        const auto [setting, sequences] = any_example<A>(any_small_lengths());
        const Decision decision = any_decision_about_sequences<A>();
        const auto model = make_model<A>(processor, setting);
        const auto together = run_forward(model, sequences, decision);
        for (std::size_t s = 0; s < sequences.lengths.size(); ++s) {
            const Index length = sequences.lengths[s];
            const auto alone =
                run_forward(model, {sequences.piece(s, 0, length), {length}}, decision);
            RC_ASSERT(agree(
                alone, rows_of(together, setting.config.vocab_size, sequences.offset(s), length)));
        }
    });
}

TEST_CASE_TEMPLATE("permuting the sequences permutes the outputs", A, MOR_ROUTED_ARCHITECTURES) {
    Processor processor{{.threads = 1}};
    check_property<A>("permuted in, permuted out", [&] {
        const auto [setting, sequences] = any_example<A>(any_small_lengths());
        const Decision decision = any_decision_about_sequences<A>();
        const auto order = any_order(sequences.lengths.size());
        const Sequences permuted = in_order(sequences, order);
        const auto model = make_model<A>(processor, setting);
        const auto before = run_forward(model, sequences, decision);
        const auto after = run_forward(model, permuted, decision);
        const Index vocabulary = setting.config.vocab_size;
        for (std::size_t s = 0; s < order.size(); ++s) {
            const Index length = permuted.lengths[s];
            RC_ASSERT(agree(rows_of(after, vocabulary, permuted.offset(s), length),
                            rows_of(before, vocabulary, sequences.offset(order[s]), length)));
        }
    });
}

TEST_CASE_TEMPLATE("a later token changes no earlier row and no other sequence", A,
                   MOR_ROUTED_ARCHITECTURES) {
    Processor processor{{.threads = 1}};
    check_property<A>("the future does not matter", [&] {
        const auto [setting, sequences] = any_example<A>(any_small_lengths());
        RC_PRE(!sequences.tokens.empty());
        const Index vocabulary = setting.config.vocab_size;
        const Decision decision = any_causal_decision<A>();
        const Index changed_row = *uniform(0, std::ssize(sequences.tokens) - 1).as("changed row");
        const Index shift = *uniform(1, vocabulary - 1).as("change");
        Sequences changed = sequences;
        TokenId& token = changed.tokens[static_cast<std::size_t>(changed_row)];
        token = static_cast<TokenId>((token + shift) % vocabulary);
        const auto model = make_model<A>(processor, setting);
        const auto before = run_forward(model, sequences, decision);
        const auto after = run_forward(model, changed, decision);
        for (std::size_t s = 0; s < sequences.lengths.size(); ++s) {
            const Index first = sequences.offset(s);
            const Index end = first + sequences.lengths[s];
            const bool is_changed = first <= changed_row && changed_row < end;
            const Index unaffected = (is_changed ? changed_row : end) - first;
            RC_ASSERT(agree(rows_of(before, vocabulary, first, unaffected),
                            rows_of(after, vocabulary, first, unaffected)));
        }
    });
}

TEST_CASE_TEMPLATE("decoding in pieces of any length equals the causal pass", A,
                   MOR_ROUTED_ARCHITECTURES) {
    Processor processor{{.threads = 1}};
    check_property<A>("decoding = full pass", [&] {
        const auto [setting, sequences] = any_example<A>(any_lengths(1, 5, 12));
        const auto calls = any_calls(sequences.lengths);
        const auto model = make_model<A>(processor, setting);
        const auto full = run_forward(model, sequences, Decision::causal);
        auto cache = model.make_cache(std::ssize(sequences.lengths));
        mor::Context<Processor> context{processor};
        mor::Trace<A, Processor> trace;
        std::vector<Index> done(sequences.lengths.size(), 0);
        for (const std::vector<Index>& pieces : calls) {
            const auto [piece, expected] =
                continuation(sequences, full, setting.config.vocab_size, done, pieces);
            model.extend(context, piece.batch(), cache, trace);
            RC_ASSERT(agree(result_of(trace), expected));
            for (std::size_t s = 0; s < pieces.size(); ++s) {
                done[s] += pieces[s];
                RC_ASSERT(cache.length(static_cast<Index>(s)) == done[s]);
            }
        }
        RC_ASSERT(done == sequences.lengths);
    });
}
