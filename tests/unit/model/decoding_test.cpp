// SPDX-License-Identifier: Apache-2.0
//
// Decoding from a cache computes what the pass over whole sequences does.
#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <set>
#include <vector>

namespace {

using namespace mor::test;
using mor::Decision;
using mor::Index;

using Cpu = mor::Cpu<float>;
using Chunks = std::vector<std::vector<Index>>;  // [calls][sequences] tokens to continue by

constexpr double tolerance = 1e-4;

template <class A>
mor::Model<A, Cpu> make_model(Cpu& cpu, bool tied) {
    mor::ModelConfig config = small_config<A>();
    config.tie_embeddings = tied;
    mor::Model<A, Cpu> model{cpu, config, small_options<A>(), 3};
    fill_zero_parameters(model);
    return model;
}

/// One token a call; the second sequence begins later and the third pauses.
Chunks token_by_token(const std::vector<Index>& lengths) {
    Chunks chunks;
    std::vector<Index> done(lengths.size(), 0);
    for (Index call = 0; done != lengths; ++call) {
        std::vector<Index> chunk;
        for (std::size_t s = 0; s < lengths.size(); ++s) {
            const bool waits = (s == 1 && call < 3) || (s == 2 && call % 4 == 2);
            chunk.push_back(done[s] < lengths[s] && !waits ? 1 : 0);
            done[s] += chunk.back();
        }
        chunks.push_back(chunk);
    }
    return chunks;
}

/// Decodes in the given chunks, and compares logits and depths of every call with the full pass.
template <class A>
void check_decoding(const mor::Model<A, Cpu>& model, const Sequences& sequences,
                    const Chunks& chunks) {
    const Index vocabulary = model.config().vocab_size;
    const auto full = run_forward(model, sequences, Decision::causal);
    auto cache = model.make_cache(std::ssize(sequences.lengths));
    mor::Context<Cpu> context{model.backend()};
    mor::Trace<A, Cpu> trace;
    for (const std::vector<Index>& lengths : chunks) {
        Sequences piece{{}, lengths};
        std::vector<float> expected;
        std::vector<Index> expected_depths;
        for (std::size_t s = 0; s < lengths.size(); ++s) {
            const Index done = cache.length(static_cast<Index>(s));
            const auto tokens = sequences.piece(s, done, lengths[s]);
            piece.tokens.insert(piece.tokens.end(), tokens.begin(), tokens.end());
            const Index first = sequences.offset(s) + done;
            const auto rows = rows_of(full.logits, vocabulary, first, lengths[s]);
            expected.insert(expected.end(), rows.begin(), rows.end());
            expected_depths.insert(expected_depths.end(), full.depths.begin() + first,
                                   full.depths.begin() + first + lengths[s]);
        }
        model.extend(context, piece.batch(), cache, trace);
        REQUIRE(max_difference(mor::to_host(trace.logits), expected) < tolerance);
        REQUIRE(mor::token_depths(trace) == expected_depths);
    }
    for (std::size_t s = 0; s < sequences.lengths.size(); ++s) {
        CHECK(cache.length(static_cast<Index>(s)) == sequences.lengths[s]);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("decoding equals the full pass, token by token and in chunks", A,
                   MOR_ALL_ARCHITECTURES, MOR_SHARED_CACHE_ARCHITECTURES, MOR_HYBRID_ARCHITECTURES,
                   MOR_ROUTER_ARCHITECTURES, MOR_RELAXED_ARCHITECTURES, MOR_HALTING_ARCHITECTURES,
                   MOR_PATTERN_CACHE_ARCHITECTURES) {
    Cpu cpu{{.threads = 2}};
    for (const bool tied : {true, false}) {
        const auto model = make_model<A>(cpu, tied);
        const Sequences sequences = random_sequences({13, 7, 40}, model.config().vocab_size, 5);
        check_decoding(model, sequences, {{13, 7, 40}});
        check_decoding(model, sequences, token_by_token(sequences.lengths));
        check_decoding(model, sequences, {{5, 0, 8}, {1, 6, 3}, {0, 0, 0}, {7, 1, 1}, {0, 0, 28}});
    }
}

TEST_CASE_TEMPLATE("the routed decoding tests see tokens of different depths", A,
                   mor::MoRExpert<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::Cycle>, mor::MoRToken<mor::MiddleCycle>) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu, true);
    const Sequences sequences = random_sequences({13, 7, 40}, model.config().vocab_size, 5);
    const auto full = run_forward(model, sequences, Decision::causal);
    CHECK(std::set<Index>(full.depths.begin(), full.depths.end()) == std::set<Index>{1, 2, 3});
}

TEST_CASE_TEMPLATE("logits of the last rows alone are rows of all logits", A,
                   mor::Recursive<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::MiddleCycle>, MOR_LAST_ROWS_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu, true);
    const Index vocabulary = model.config().vocab_size;
    const Sequences sequences = random_sequences({5, 0, 9}, vocabulary, 5);
    const auto full = run_forward(model, sequences, Decision::causal);
    auto cache = model.make_cache(3);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.extend(context, sequences.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    auto expected = rows_of(full.logits, vocabulary, 4, 1);
    const auto last = rows_of(full.logits, vocabulary, 13, 1);
    expected.insert(expected.end(), last.begin(), last.end());
    CHECK(max_difference(mor::to_host(trace.logits), expected) < tolerance);
}

TEST_CASE_TEMPLATE("a cleared place serves another sequence, and the others go on", A,
                   MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu, true);
    const Index vocabulary = model.config().vocab_size;
    const Sequences first = random_sequences({9, 12}, vocabulary, 5);
    const Sequences other = random_sequences({6}, vocabulary, 6);
    auto cache = model.make_cache(2);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    const auto extend = [&](std::vector<mor::TokenId> tokens, std::vector<Index> lengths) {
        model.extend(context, {tokens, lengths}, cache, trace);
        return mor::to_host(trace.logits);
    };
    auto tokens = first.piece(0, 0, 9);
    const auto begin = first.piece(1, 0, 5);
    tokens.insert(tokens.end(), begin.begin(), begin.end());
    extend(tokens, {9, 5});

    cache.clear(0);
    CHECK(cache.length(0) == 0);
    CHECK(cache.length(1) == 5);
    const auto of_other = extend(other.tokens, {6, 0});
    CHECK(max_difference(of_other, run_forward(model, other, Decision::causal).logits) < tolerance);
    const auto of_first = extend(first.piece(1, 5, 7), {0, 7});
    const auto full = run_forward(model, first, Decision::causal);
    CHECK(max_difference(of_first, rows_of(full.logits, vocabulary, 14, 7)) < tolerance);
}

TEST_CASE_TEMPLATE("of a pattern, too, the last rows alone are rows of all logits", A,
                   MOR_PATTERN_CACHE_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu, true);
    const Sequences sequences = random_sequences({13, 7}, 29, 5);
    auto cache = model.make_cache(2);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.extend(context, sequences.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    const auto full = run_forward(model, sequences, Decision::causal).logits;
    const auto last = mor::to_host(trace.logits);
    CHECK(max_difference(rows_of(last, 29, 0, 1), rows_of(full, 29, 12, 1)) < tolerance);
    CHECK(max_difference(rows_of(last, 29, 1, 1), rows_of(full, 29, 19, 1)) < tolerance);
    // Layers of their own: 0 1 2, 0 2 4, and 0 1 2 5.
    const bool is_middle = std::string_view{A::Cache::name}.ends_with("middle_cycle");
    const Index entry = 2 * 2 * 4 * static_cast<Index>(sizeof(float));
    CHECK(cache.bytes_in_use() == 20 * (is_middle ? 4 : 3) * entry);
}

TEST_CASE("patterns of keys are those of the authors") {
    const auto owners = [](const auto& cache) {
        std::vector<Index> found;
        for (Index layer = 0; layer < 8; ++layer) {
            found.push_back(cache.key_layer(mor::NoSharing{}.layout(8), layer));
        }
        return found;
    };
    using Owners = std::vector<Index>;
    CHECK(owners(mor::PatternSharingCache<mor::Cycle>{{.num_recursions = 2}}) ==
          Owners{0, 1, 2, 3, 0, 1, 2, 3});
    CHECK(owners(mor::PatternSharingCache<mor::Sequence>{{.num_recursions = 2}}) ==
          Owners{0, 0, 2, 2, 4, 4, 6, 6});
    CHECK(owners(mor::PatternSharingCache<mor::MiddleCycle>{{.num_recursions = 3}}) ==
          Owners{0, 1, 2, 1, 2, 1, 2, 7});
}

TEST_CASE_TEMPLATE("a shared cache stores each distinct layer once", A,
                   MOR_SHARED_CACHE_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu, true);
    const Sequences sequences = random_sequences({13, 7}, model.config().vocab_size, 5);
    auto cache = model.make_cache(2);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.extend(context, sequences.batch(), cache, trace);
    const Index entry = 2 * model.config().num_kv_heads * model.config().head_dim *
                        static_cast<Index>(sizeof(float));
    CHECK(cache.bytes_in_use() == 20 * model.layout().num_physical() * entry);
}
