// SPDX-License-Identifier: Apache-2.0
//
// A request's tokens, depths and log-probabilities do not depend on what else is served, on
// arrival, chunks, memory, threads or the scheduling policy: equal to the bit over many random
// mixes.
#include <mor/cache/hybrid.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>
#include <mor/routing/random_choice.hpp>

#include <doctest/doctest.h>
#include <unit/serve/serving.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <string_view>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using B = ServingBackend;

constexpr std::array<Index, 4> block_sizes{1, 3, 7, 16};

struct RandomRouted : mor::DefaultArchitecture {
    using Router = mor::RandomChoice;
};
struct StepEmbedded : mor::MoRExpert<mor::Cycle> {
    using Injection = mor::StepEmbedding;
};
struct Encoded : mor::MoRToken<> {
    using Relaxation = mor::RecursionEncoding;
};

template <class A>
class Answers {
public:
    using Answer = std::vector<mor::ServedToken>;

    /// Answers are expected to be those of `alone`, the same model on another number of threads.
    /// Calls have fewer rows than `most_rows`.
    Answers(mor::Model<A, B>& model, mor::Model<A, B>& alone, Index most_rows)
        : model_{model}, requests_{random_requests(24, 7)}, most_rows_{most_rows} {
        for (Request& request : requests_) {
            request.options.wants_log_probabilities = true;
        }
        // One at a time, token by token.
        for (const Index block_size : block_sizes) {
            std::vector<Answer>& answers = expected_[block_size];
            for (const Request& request : requests_) {
                mor::Engine<A, B, mor::StaticBatch> engine{alone,
                                                           {.max_batch = 1,
                                                            .cache_bytes = 1 << 22,
                                                            .block_size = block_size,
                                                            .max_prefixes = 0}};
                auto handle = engine.submit(request.prompt, request.options);
                engine.run();
                answers.push_back(read_all(handle));
            }
        }
    }

    [[nodiscard]] const std::vector<Answer>& expected() const { return expected_.begin()->second; }

    /// Checks so many mixes under each policy.
    mor::EngineCounts check_mixes(std::uint64_t count) {
        mor::EngineCounts total;
        for (std::uint64_t seed = 0; seed < count; ++seed) {
            check_mix<mor::DepthWise>(seed, total);
            check_mix<mor::SequenceWise>(seed + 100, total);
            check_mix<mor::StaticBatch>(seed + 200, total);
        }
        return total;
    }

private:
    /// Serves a random choice of the requests in random order.
    template <class Scheduling>
    void check_mix(std::uint64_t seed, mor::EngineCounts& total) {
        mor::Random random{seed};
        const auto integer = [&](Index first, Index last) {
            return mor::testing::uniform_integers(random, 1, first, last).front();
        };
        const Index block_size =
            block_sizes[static_cast<std::size_t>(integer(0, std::ssize(block_sizes)))];
        const mor::ModelConfig& sizes = model_.config();
        const Index entry =
            2 * sizes.num_kv_heads * sizes.head_dim * static_cast<Index>(sizeof(float));
        // Room for the longest sequence, and by chance not for many more.
        Index tables = 0;
        for (Index layer = 0; layer < model_.layout().num_unrolled(); ++layer) {
            const Index owner = model_.cache_policy().key_layer(model_.layout(), layer);
            tables += owner == layer || mor::updates_shared_keys<typename A::Cache> ? 1 : 0;
        }
        const Index blocks = tables * (64 / block_size + 1);
        const mor::EngineOptions options{
            .max_batch = integer(1, most_rows_),
            .max_sequences = integer(1, 30),
            .prefill_chunk = integer(1, 12),
            .cache_bytes = blocks * block_size * entry * integer(1, 3),
            .block_size = block_size,
            .expected_length = 0.5 * static_cast<double>(integer(0, 3)),
            .max_prefixes = integer(0, 4)};
        mor::Engine<A, B, Scheduling> engine{model_, options};
        std::vector<std::size_t> order(requests_.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        for (std::size_t i = order.size(); i > 1; --i) {
            std::swap(order[i - 1],
                      order[static_cast<std::size_t>(integer(0, static_cast<Index>(i)))]);
        }
        order.resize(static_cast<std::size_t>(integer(1, 25)));
        std::vector<mor::RequestHandle> handles;
        for (const std::size_t i : order) {
            handles.push_back(engine.submit(requests_[i].prompt, requests_[i].options));
            for (Index steps = integer(0, 8); steps > 0; --steps) {
                engine.step();
            }
        }
        engine.run();
        for (std::size_t i = 0; i < order.size(); ++i) {
            CAPTURE(seed);
            CAPTURE(order[i]);
            CHECK(read_all(handles[i]) == expected_[block_size][order[i]]);
        }
        engine.forget_prefixes();
        CHECK(engine.cache_bytes_in_use() == 0);
        total.preemptions += engine.counts().preemptions;
        total.reused_tokens += engine.counts().reused_tokens;
        total.tokens += engine.counts().tokens;
    }

    mor::Model<A, B>& model_;
    std::vector<Request> requests_;
    Index most_rows_;
    std::map<Index, std::vector<Answer>> expected_;  // by block size
};

}  // namespace

// 9 architectures x 20 mixes x 3 policies = 540 mixes.
TEST_CASE_TEMPLATE("a request's answer is its own", A, mor::Vanilla, mor::Recursive<>,
                   mor::MoRExpert<>, mor::MoRExpert<mor::Cycle, mor::RecursiveSharingCache>,
                   mor::MoRExpert<mor::MiddleCycle, mor::HybridCache>, mor::MoRToken<>,
                   RandomRouted, StepEmbedded, Encoded) {
    B backend{{.threads = 2}};
    mor::Model<A, B> model{backend, served_config<A>(), {}, 6};
    B one_thread{{.threads = 1}};
    mor::Model<A, B> alone{one_thread, served_config<A>(), {}, 6};
    Answers<A> answers{model, alone, 12};
    const mor::EngineCounts total = answers.check_mixes(20);
    // Otherwise the test would not test them.
    CHECK(total.preemptions > 10);
    CHECK(total.reused_tokens > 100);
    CHECK(total.tokens > 2000);
    // Depths differ, where they can.
    if constexpr (!mor::keeps_every_token<typename A::Router>) {
        std::vector<Index> seen(4, 0);
        for (const auto& answer : answers.expected()) {
            for (const mor::ServedToken& token : answer) {
                ++seen[static_cast<std::size_t>(token.depth)];
            }
        }
        CHECK(std::count_if(seen.begin(), seen.end(), [](Index n) { return n > 0; }) > 1);
    }
}

// 2 architectures x 4 mixes x 3 policies.
TEST_CASE_TEMPLATE("so it is where a model is large enough for threads to share its rows", A,
                   mor::MoRExpert<>, mor::MoRToken<>) {
    mor::ModelConfig sizes = served_config<A>();
    sizes.vocab_size = 8'192;
    sizes.hidden_size = 256;
    sizes.intermediate_size = 512;
    sizes.num_heads = 8;
    sizes.num_kv_heads = 4;
    sizes.initializer_range = 0.1;
    B backend{{.threads = 3}};
    mor::Model<A, B> model{backend, sizes, {}, 6};
    B one_thread{{.threads = 1}};
    mor::Model<A, B> alone{one_thread, sizes, {}, 6};
    Answers<A> answers{model, alone, 64};
    const mor::EngineCounts total = answers.check_mixes(4);
    CHECK(total.tokens > 500);
}
