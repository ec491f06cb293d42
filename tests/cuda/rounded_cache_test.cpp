// SPDX-License-Identifier: Apache-2.0
//
// Keys and values that are kept rounded: what caches of them take, and that decoding and serving
// from them give what a pass over whole sequences gives. The backend under test is that of
// under_test.hpp, found by the include path.
#include "under_test.hpp"
#include <mor/generate/generate.hpp>
#include <mor/serve/engine.hpp>

#include <cuda/float_activations.hpp>
#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <iterator>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using Tested = std::tuple_element_t<0, backend_tests::BackendsUnderTest>;
static_assert(std::is_same_v<mor::ActivationElement<Tested>, mor::BFloat16>);

using FloatActivations = mor::Cuda<float, FloatActivationsSystem<Tested::System>>;

template <class A, mor::Backend B>
mor::Model<A, B> make_model(B& backend) {
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    fill_zero_parameters(model);
    return model;
}

/// Continues the sequences of a cache by so many tokens each.
template <class A, mor::Backend B>
struct Decoding {
    const mor::Model<A, B>& model;
    const Sequences& sequences;
    mor::KeyValueCache<B> cache = model.make_cache(std::ssize(sequences.lengths));
    mor::Context<B> context{model.backend()};
    mor::Trace<A, B> trace = {};

    /// Logits and depths of each sequence's next tokens, one sequence after another.
    template <class Observer = mor::NoObserver>
    Result<float> read(const std::vector<Index>& lengths, Observer&& observer = {}) {
        Sequences piece{{}, lengths};
        for (std::size_t s = 0; s < lengths.size(); ++s) {
            const auto tokens = sequences.piece(s, cache.length(static_cast<Index>(s)), lengths[s]);
            piece.tokens.insert(piece.tokens.end(), tokens.begin(), tokens.end());
        }
        model.extend(context, piece.batch(), cache, trace, {}, observer);
        return result_of(trace);
    }
};

/// Those rows of a pass over whole sequences: tokens [first, first + count) of each.
Result<float> rows_at(const Result<float>& full, const Sequences& sequences, Index vocabulary,
                      const std::vector<Index>& first, const std::vector<Index>& count) {
    Result<float> rows;
    for (std::size_t s = 0; s < count.size(); ++s) {
        const Index row = sequences.offset(s) + first[s];
        const auto logits = rows_of(full.logits, vocabulary, row, count[s]);
        rows.logits.insert(rows.logits.end(), logits.begin(), logits.end());
        rows.depths.insert(rows.depths.end(), full.depths.begin() + row,
                           full.depths.begin() + row + count[s]);
    }
    return rows;
}

/// Between the logits of a pass over many rows and those of some that follow the others.
template <class A, mor::Backend B>
double decoding_error() {
    B backend;
    const auto model = make_model<A>(backend);
    const Index vocabulary = model.config().vocab_size;
    const Sequences sequences = random_sequences({60, 60, 30}, vocabulary, 5);
    const auto full = run_forward(model, sequences, mor::Decision::causal);
    Decoding<A, B> decoding{model, sequences};
    decoding.read({58, 59, 25});
    const auto found = decoding.read({2, 1, 5});
    const auto expected = rows_at(full, sequences, vocabulary, {58, 59, 25}, {2, 1, 5});
    return max_difference(found.logits, expected.logits);
}

Index bytes_of(const mor::KeyValueCache<Tested>& cache) {
    Index entries = 0;
    for (Index layer = 0; layer < cache.num_layers(); ++layer) {
        entries += cache.num_entries(layer);
    }
    return entries * cache.key_width() * 2 * 2;  // keys and values, of 2 bytes
}

}  // namespace

// Fewer rows than attention has tiles for: every row is computed alike in any call.
TEST_CASE_TEMPLATE("decoding rounded keys equals the full pass, to the bit", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>,
                   mor::Recursive<mor::MiddleCycle, mor::RecursiveSharingCache>,
                   mor::MoRExpert<mor::MiddleCycle, mor::HybridCache>, SequenceLowRank,
                   ExpertPrompt, CyclePonder) {
    Tested backend;
    const auto model = make_model<A>(backend);
    const Index vocabulary = model.config().vocab_size;
    const Sequences sequences = random_sequences({13, 7, 40}, vocabulary, 5);
    const auto full = run_forward(model, sequences, mor::Decision::causal);
    Decoding<A, Tested> decoding{model, sequences};
    std::vector<Index> done{0, 0, 0};
    for (const std::vector<Index>& lengths : std::vector<std::vector<Index>>{
             {5, 0, 8}, {1, 1, 1}, {1, 0, 1}, {6, 6, 3}, {0, 0, 1}, {0, 0, 26}}) {
        const auto found = decoding.read(lengths);
        const auto expected = rows_at(full, sequences, vocabulary, done, lengths);
        CHECK(found.depths == expected.depths);
        CHECK(found.logits == expected.logits);
        std::transform(done.begin(), done.end(), lengths.begin(), done.begin(), std::plus{});
    }
    CHECK(done == sequences.lengths);
}

// Over tiles, weights are rounded too: that is seen where keys are floats as well.
TEST_CASE_TEMPLATE(
    "after a prompt of many rows, rounded keys bring decoding little further from it", A,
    mor::Vanilla, mor::Recursive<mor::MiddleCycle, mor::RecursiveSharingCache>) {
    const double of_rounded_keys = decoding_error<A, Tested>();
    CHECK(of_rounded_keys > 0);
    CHECK(of_rounded_keys < 1.5 * decoding_error<A, FloatActivations>());
}

TEST_CASE_TEMPLATE("caches count the bytes of rounded keys", A, mor::Vanilla,
                   mor::MoRToken<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle, mor::HybridCache>) {
    Tested backend;
    const auto model = make_model<A>(backend);
    const Sequences sequences = random_sequences({13, 7}, model.config().vocab_size, 5);
    Decoding<A, Tested> decoding{model, sequences};
    Index seen = 0;
    const auto add_bytes = [&](const mor::LayerSeen<Tested>& layer) { seen += layer.key_bytes; };
    for (const std::vector<Index>& lengths : std::vector<std::vector<Index>>{{9, 7}, {4, 0}}) {
        decoding.read(lengths, add_bytes);
        CHECK(decoding.cache.bytes_in_use() == bytes_of(decoding.cache));
        CHECK(seen == bytes_of(decoding.cache));
    }
    const auto generated = generate(model, sequences.piece(0, 0, 13),
                                    {.max_new_tokens = 3, .sampling = {.temperature = 0}});
    CHECK(generated.cache_bytes > 0);
    CHECK(generated.cache_bytes % (model.config().num_kv_heads * model.config().head_dim * 4) == 0);
}

TEST_CASE("blocks of rounded keys: twice as many fit into as many bytes") {
    const std::vector<mor::detail::KeyUse> uses{{.layer = 0, .key_layer = 0}};
    const mor::PagedKeyValueCache<Tested> rounded{uses, 8, 1 << 16, 16};
    const mor::PagedKeyValueCache<FloatActivations> exact{uses, 8, 1 << 16, 16};
    CHECK(rounded.pool().num_blocks() == (1 << 16) / (16 * 8 * 2 * 2));
    CHECK(rounded.pool().num_blocks() == 2 * exact.pool().num_blocks());
    CHECK(rounded.most_bytes(17) == 2 * 16 * 8 * 2 * 2);
}

TEST_CASE_TEMPLATE("an engine answers from rounded keys as generation does", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>,
                   mor::MoRExpert<mor::MiddleCycle, mor::HybridCache>) {
    Tested backend;
    const auto model = make_model<A>(backend);
    using Answer = std::vector<mor::TokenId>;
    std::vector<Answer> expected;
    mor::Engine<A, Tested> engine{model, {.max_batch = 8, .cache_bytes = 1 << 20, .block_size = 4}};
    std::vector<mor::RequestHandle> handles;
    for (const Index length : {1, 12, 5, 23, 2}) {
        const Sequences prompt = random_sequences({length}, model.config().vocab_size, 5);
        const Index tokens = 3 + length / 2;
        Answer answer;
        for (const mor::GeneratedToken& token :
             generate(model, prompt.tokens,
                      {.max_new_tokens = tokens, .sampling = {.temperature = 0}})
                 .tokens) {
            if (!token.from_prompt) {
                answer.push_back(token.token);
            }
        }
        expected.push_back(answer);
        handles.push_back(engine.submit(
            prompt.tokens, {.max_new_tokens = tokens, .sampling = {.temperature = 0}}));
    }
    engine.run();
    for (std::size_t i = 0; i < handles.size(); ++i) {
        Answer answer;
        while (const auto token = handles[i].try_next()) {
            answer.push_back(token->token);
        }
        CHECK(answer == expected[i]);
    }
}
