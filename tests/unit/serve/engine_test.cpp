// SPDX-License-Identifier: Apache-2.0
#include <mor/generate/generate.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>

#include <doctest/doctest.h>
#include <unit/serve/serving.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace mor::test;
using mor::Finish;
using mor::Index;
using A = mor::MoRToken<>;
using B = ServingBackend;

struct Served {
    B backend{{.threads = 1}};
    mor::Model<A, B> model{backend, served_config<A>(), {}, 5};
    std::vector<mor::TokenId> prompt{5, 1, 7, 7, 2};
};

/// The message of the E that reading the handle throws.
template <class E>
std::string error_of(mor::RequestHandle& handle) {
    CHECK(handle.finish() == Finish::failed);
    try {
        static_cast<void>(read_all(handle));
    } catch (const E& error) {
        return error.what();
    }
    return "no error";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// Keeps one row more than there are.
struct TooMany {
    static constexpr std::string_view name = "test.too_many";
    using Merge = mor::Replace;
    struct Options {};
    explicit TooMany(const Options& /*options*/) {}
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        return step.num_candidates() + 1;
    }
};

}  // namespace

TEST_CASE("the engine continues a prompt as generate does") {
    Served s;
    mor::Engine engine{s.model};
    auto handle = engine.submit(s.prompt, {.max_new_tokens = 20, .sampling = {.temperature = 0}});
    engine.run();
    CHECK(handle.finish() == Finish::length);
    const auto served = read_all(handle);
    const auto generated =
        mor::generate(s.model, s.prompt, {.max_new_tokens = 20, .sampling = {.temperature = 0}});
    REQUIRE(served.size() == 20);
    for (std::size_t i = 0; i < 20; ++i) {
        CHECK(served[i].token == generated.tokens[i + 5].token);
        CHECK(served[i].depth == generated.tokens[i + 4].depth);  // of the row that predicted it
    }
    CHECK(engine.counts().tokens == 20);
}

TEST_CASE("what is wrong with a request is thrown by its handle, and the engine goes on") {
    Served s;
    mor::Engine engine{s.model, {.cache_bytes = 40'000}};
    const auto submit = [&](const std::vector<mor::TokenId>& prompt,
                            const mor::RequestOptions& options) {
        return engine.submit(prompt, options);
    };
    auto empty = submit({}, {});
    CHECK(contains(error_of<mor::ConfigError>(empty), "the prompt is empty"));
    auto longer = submit(std::vector<mor::TokenId>(65, 1), {});
    CHECK(contains(error_of<mor::ShapeError>(longer), "max_positions is 64"));
    auto outside = submit({1, 61}, {});
    CHECK(contains(error_of<mor::ShapeError>(outside), "token 61"));
    auto negative = submit({-1}, {});
    CHECK(contains(error_of<mor::ShapeError>(negative), "token -1"));
    auto cold = submit({1}, {.sampling = {.temperature = -1}});
    CHECK(contains(error_of<mor::ConfigError>(cold), "temperature is -1"));
    auto no_tokens = submit({1}, {.max_new_tokens = 0});
    CHECK(contains(error_of<mor::ConfigError>(no_tokens), "max_new_tokens is 0"));
    auto no_depth = submit({1}, {.max_depth = 0});
    CHECK(contains(error_of<mor::ConfigError>(no_depth), "max_depth is 0"));
    auto large = submit({1}, {.max_new_tokens = 60});
    CHECK(contains(error_of<mor::ConfigError>(large), "cache_bytes is 40000"));
    auto good = submit({1}, {.max_new_tokens = 3});
    engine.run();
    CHECK(read_all(good).size() == 3);
}

TEST_CASE("impossible engines are refused") {
    Served s;
    const auto message = [&](const mor::EngineOptions& options) -> std::string {
        try {
            const mor::Engine engine{s.model, options};
        } catch (const mor::ConfigError& error) {
            return error.what();
        }
        return "no error";
    };
    CHECK(contains(message({.max_batch = 0}), "max_batch is 0"));
    CHECK(contains(message({.max_batch = 1 << 20}), "max_batch is 1048576, expected 1 to 16384"));
    CHECK(contains(message({.max_sequences = -1}), "max_sequences is -1"));
    CHECK(contains(message({.prefill_chunk = -1}), "prefill_chunk is -1"));
    CHECK(contains(message({.cache_bytes = 0}), "cache_bytes is 0"));
    CHECK(contains(message({.cache_bytes = 1000}), "too little for one block in each layer"));
    CHECK(contains(message({.block_size = 65}), "block_size is 65"));
    CHECK(contains(message({.max_prefixes = -1}), "max_prefixes is -1"));
}

TEST_CASE("an answer ends before a stop token, at the end of the context, or when cancelled") {
    Served s;
    mor::Engine engine{s.model};
    const mor::SamplingOptions greedy{.temperature = 0};
    auto all = engine.submit(s.prompt, {.max_new_tokens = 1000, .sampling = greedy});
    engine.run();
    CHECK(all.finish() == Finish::context_full);
    const auto tokens = read_all(all);
    CHECK(tokens.size() == 64 - 5 + 1);  // the last is never read

    const mor::TokenId stop = tokens[6].token;
    auto stopped = engine.submit(s.prompt, {.stop_tokens = {stop}, .sampling = greedy});
    engine.run();
    CHECK(stopped.finish() == Finish::stop_token);
    std::size_t before = 0;
    while (tokens[before].token != stop) {
        ++before;
    }
    CHECK(read_all(stopped).size() == before);

    auto cancelled = engine.submit(s.prompt, {.sampling = greedy});
    auto other = engine.submit(s.prompt, {.max_new_tokens = 4, .sampling = greedy});
    for (int i = 0; i < 6; ++i) {
        engine.step();
    }
    cancelled.cancel();
    engine.run();
    CHECK(cancelled.finish() == Finish::cancelled);
    CHECK(read_all(cancelled).size() < 128);
    CHECK(!cancelled.next().has_value());
    CHECK(read_all(other).size() == 4);
}

TEST_CASE("a callback that throws, and logits that are not numbers, end their request alone") {
    Served s;
    mor::Engine engine{s.model};
    int calls = 0;
    auto throwing = engine.submit(s.prompt, {.on_token = [&](const mor::ServedToken&) {
                                      if (++calls == 3) {
                                          throw std::runtime_error{"enough"};
                                      }
                                  }});
    auto other = engine.submit(s.prompt, {.max_new_tokens = 9});
    engine.run();
    CHECK(error_of<std::runtime_error>(throwing) == "enough");
    CHECK(calls == 3);
    CHECK(read_all(other).size() == 9);

    // A token whose vector is not a number, in a model with a head of its own.
    mor::ModelConfig config = served_config<A>();
    config.tie_embeddings = false;
    mor::Model<A, B> broken{s.backend, config, {}, 5};
    broken.visit_parameters([](mor::Parameter<B>& parameter) {
        if (parameter.name() == "model.embed_tokens.weight") {
            parameter.value_matrix().row(9)[0] = std::numeric_limits<float>::quiet_NaN();
        }
    });
    mor::Engine breaking{broken};
    auto nan = breaking.submit(std::vector<mor::TokenId>{1, 9});
    auto sound = breaking.submit(std::vector<mor::TokenId>{1, 2}, {.max_new_tokens = 1});
    breaking.run();
    CHECK(contains(error_of<mor::NumericError>(nan), "NaN"));
    CHECK(read_all(sound).size() == 1);
}

TEST_CASE("requests arrive from several threads while another serves") {
    Served s;
    mor::Engine engine{s.model, {.max_batch = 4}};
    std::jthread server{[&](const std::stop_token& stop) { engine.serve(stop); }};
    std::vector<std::jthread> clients;
    std::vector<std::size_t> received(3, 0);
    for (std::size_t client = 0; client < 3; ++client) {
        clients.emplace_back([&, client] {
            for (const Request& request : random_requests(15, client)) {
                auto handle = engine.submit(request.prompt, request.options);
                if (request.prompt.size() % 5 == 0) {
                    handle.cancel();
                }
                while (handle.next()) {
                    ++received[client];
                }
                CHECK(handle.finish() != Finish::not_yet);
            }
        });
    }
    clients.clear();
    server.request_stop();
    server.join();
    for (const std::size_t count : received) {
        CHECK(count > 20);
    }
}

TEST_CASE("an engine that goes away ends what it had not finished") {
    Served s;
    auto handle = [&] {
        mor::Engine engine{s.model};
        auto running = engine.submit(s.prompt);
        for (int i = 0; i < 9; ++i) {
            engine.step();
        }
        return running;
    }();
    CHECK(handle.finish() == Finish::engine_stopped);
    CHECK(!read_all(handle).empty());
}

TEST_CASE("depth-wise calls of the shared block are full, with rows of different steps") {
    Served s;
    Index calls = 0;
    Index rows = 0;
    Index mixed = 0;
    mor::Engine engine{s.model, {.max_batch = 4, .on_call = [&](const mor::EngineCall& call) {
                                     if (call.part == mor::EnginePart::shared_block) {
                                         ++calls;
                                         rows += call.rows;
                                         mixed += call.steps.front() != call.steps.back() ? 1 : 0;
                                     }
                                 }}};
    for (int i = 0; i < 40; ++i) {
        static_cast<void>(engine.submit(std::vector<mor::TokenId>{i}, {.max_new_tokens = 30}));
    }
    engine.run();
    CHECK(static_cast<double>(rows) / static_cast<double>(calls) > 3.8);
    CHECK(mixed > calls / 4);
}

TEST_CASE("admission reckons with how far answers will grow") {
    Served s;
    const auto preemptions = [&](double expected_length) {
        // Room for two sequences and a half at their longest.
        mor::Engine engine{
            s.model, {.cache_bytes = 80'000, .block_size = 1, .expected_length = expected_length}};
        std::vector<mor::RequestHandle> handles;
        for (int i = 0; i < 12; ++i) {
            handles.push_back(engine.submit(std::vector<mor::TokenId>{i}, {.max_new_tokens = 50}));
        }
        engine.run();
        for (mor::RequestHandle& handle : handles) {
            CHECK(read_all(handle).size() == 50);
        }
        return engine.counts().preemptions;
    };
    CHECK(preemptions(0) > 5);
    CHECK(preemptions(1) <= 1);
    CHECK_THROWS_WITH_AS((mor::Engine{s.model, {.expected_length = 1.5}}),
                         "mor::Engine: expected_length is 1.5, expected 0 to 1", mor::ConfigError);
}

TEST_CASE("requests that begin alike run together in memory for one of them alone and a little") {
    Served s;
    mor::Random random{9};
    const auto prompt = mor::testing::uniform_integers<mor::TokenId>(random, 40, 0, 61);
    // 43 tokens in 5 tables, and eight blocks more in each, of which a sequence needs two.
    const Index entries = 5 * 44 + 5 * 4 * 8;
    Index most = 0;
    const mor::Engine<A, B>* watched = nullptr;
    mor::Engine<A, B> engine{s.model,
                             {.cache_bytes = entries * 2 * 16 * static_cast<Index>(sizeof(float)),
                              .block_size = 4,
                              .on_call = [&](const mor::EngineCall&) {
                                  most = std::max(most, watched->counts().running);
                              }}};
    watched = &engine;
    for (int i = 0; i < 6; ++i) {
        static_cast<void>(engine.submit(prompt, {.max_new_tokens = 4}));
        if (i == 0) {
            engine.run();  // its beginning is kept
            most = 0;
        }
    }
    engine.run();
    CHECK(most >= 3);
}

TEST_CASE("tokens are drawn on several threads as on one") {
    mor::ModelConfig sizes = served_config<A>();
    sizes.vocab_size = 20'000;
    const auto answers = [&](Index threads) {
        B backend{{.threads = threads}};
        mor::Model<A, B> model{backend, sizes, {}, 5};
        mor::Engine engine{model, {.max_batch = 12}};
        std::vector<mor::RequestHandle> handles;
        for (int i = 0; i < 12; ++i) {
            handles.push_back(
                engine.submit(std::vector<mor::TokenId>{i},
                              {.max_new_tokens = 6,
                               .sampling = {.top_p = 0.9, .repetition_penalty = 1.2, .seed = 3},
                               .wants_log_probabilities = true}));
        }
        engine.run();
        std::vector<std::vector<mor::ServedToken>> all;
        for (mor::RequestHandle& handle : handles) {
            all.push_back(read_all(handle));
        }
        return all;
    };
    const auto expected = answers(1);
    CHECK(expected.back().size() == 6);
    CHECK(answers(3) == expected);
}

TEST_CASE("the most blocks are held when a sequence is about to end") {
    using mor::detail::GrowingSequence;
    std::vector<GrowingSequence> none;
    CHECK(mor::detail::peak_blocks(none) == 0);
    // Just before the first ends, after 4 tokens: (10 + 4) + (1 + 8). Before the second: 1 + 2 * 6.
    std::vector<GrowingSequence> two{{1, 2, 6}, {10, 1, 4}};
    CHECK(mor::detail::peak_blocks(two) == 23);
    std::vector<GrowingSequence> late{{1, 2, 60}, {10, 1, 4}};
    CHECK(mor::detail::peak_blocks(late) == 121);
}

TEST_CASE("a request that asks for any number of tokens is checked against the memory") {
    Served s;
    mor::Engine small{s.model, {.cache_bytes = 40'000}};
    const Index any = std::numeric_limits<Index>::max();
    auto refused = small.submit(s.prompt, {.max_new_tokens = any});
    CHECK(contains(error_of<mor::ConfigError>(refused), "cache_bytes is 40000"));
    mor::Engine engine{s.model};
    auto served = engine.submit(s.prompt, {.max_new_tokens = any});
    engine.run();
    CHECK(served.finish() == Finish::context_full);
}

TEST_CASE("what a watcher throws leaves step, and nothing is lost") {
    Served s;
    int calls = 0;
    mor::Engine engine{s.model, {.on_call = [&](const mor::EngineCall&) {
                           if (++calls % 3 == 0) {
                               throw std::runtime_error{"watcher"};
                           }
                       }}};
    auto first = engine.submit(s.prompt, {.max_new_tokens = 5});
    auto second = engine.submit(s.prompt, {.max_new_tokens = 5});
    int thrown = 0;
    for (bool goes_on = true; goes_on;) {
        try {
            goes_on = engine.step();
        } catch (const std::runtime_error&) {
            ++thrown;
        }
    }
    CHECK(thrown > 3);
    CHECK(read_all(first).size() == 5);
    CHECK(read_all(second).size() == 5);
    engine.forget_prefixes();
    CHECK(engine.cache_bytes_in_use() == 0);
}

TEST_CASE("callbacks get the tokens, and are told of the end once") {
    Served s;
    mor::Engine engine{s.model};
    std::vector<mor::ServedToken> tokens;
    std::vector<Finish> ends;
    const auto on_finish = [&](Finish how, const std::exception_ptr& error) {
        ends.push_back(how);
        CHECK((how == Finish::failed) == (error != nullptr));
    };
    auto handle = engine.submit(
        s.prompt, {.max_new_tokens = 5,
                   .wants_log_probabilities = true,
                   .on_token = [&](const mor::ServedToken& token) { tokens.push_back(token); },
                   .on_finish = on_finish});
    engine.run();
    CHECK(ends == std::vector<Finish>{Finish::length});
    CHECK(read_all(handle).empty());
    REQUIRE(tokens.size() == 5);
    for (const mor::ServedToken& token : tokens) {
        CHECK(token.log_probability < 0);
        CHECK(token.log_probability > -20);
    }
    static_cast<void>(engine.submit({}, {.on_finish = on_finish}));
    CHECK(ends.back() == Finish::failed);
    auto cancelled = engine.submit(s.prompt, {.on_finish = on_finish});
    cancelled.cancel();
    cancelled.cancel();
    engine.run();
    CHECK(ends == std::vector<Finish>{Finish::length, Finish::failed, Finish::cancelled});
}

TEST_CASE("any number of sequences may be allowed: memory is the limit") {
    Served s;
    mor::Engine engine{s.model,
                       {.max_batch = 4, .max_sequences = std::numeric_limits<Index>::max()}};
    auto handle = engine.submit(s.prompt, {.max_new_tokens = 3});
    engine.run();
    CHECK(read_all(handle).size() == 3);
}

TEST_CASE("what on_finish throws hurts nobody, and the handle learns of the end after it") {
    Served s;
    mor::Engine engine{s.model};
    Finish before = Finish::failed;
    mor::RequestHandle* watched = nullptr;
    auto throwing = engine.submit(
        s.prompt, {.max_new_tokens = 3, .on_finish = [&](Finish, const std::exception_ptr&) {
                       before = watched->finish();
                       throw std::runtime_error{"no"};
                   }});
    watched = &throwing;
    auto other = engine.submit(s.prompt, {.max_new_tokens = 5});
    engine.run();
    CHECK(before == Finish::not_yet);
    CHECK(throwing.finish() == Finish::length);
    CHECK(read_all(throwing).size() == 3);
    CHECK(read_all(other).size() == 5);
    CHECK_NOTHROW(static_cast<void>(
        engine.submit({}, {.on_finish = [](Finish, const std::exception_ptr&) { throw 1; }})));
}

TEST_CASE("what a callback submits at the end of the last request is served") {
    Served s;
    mor::Engine engine{s.model};
    std::optional<mor::RequestHandle> later;
    const auto submit = [&](Finish, const std::exception_ptr&) {
        later = engine.submit(s.prompt, {.max_new_tokens = 2});
    };
    auto cancelled = engine.submit(s.prompt, {.on_finish = submit});
    cancelled.cancel();
    engine.run();
    REQUIRE(later);
    CHECK(later->finish() == Finish::length);
}

TEST_CASE("callbacks submit, and cancel their own request and others") {
    Served s;
    mor::Engine engine{s.model};
    std::vector<mor::RequestHandle> later;
    std::optional<mor::RequestHandle> own;
    std::optional<mor::RequestHandle> victim;
    int of_own = 0;
    int of_victim = 0;
    own = engine.submit(s.prompt, {.max_new_tokens = 20, .on_token = [&](const mor::ServedToken&) {
                                       if (++of_own == 2) {
                                           victim->cancel();
                                       }
                                       if (of_own == 4) {
                                           own->cancel();
                                       }
                                   }});
    victim = engine.submit(s.prompt,
                           {.max_new_tokens = 20,
                            .on_token = [&](const mor::ServedToken&) { ++of_victim; },
                            .on_finish =
                                [&](Finish, const std::exception_ptr&) {
                                    later.push_back(engine.submit(s.prompt, {.max_new_tokens = 2}));
                                }});
    engine.run();
    CHECK(own->finish() == Finish::cancelled);
    CHECK(of_own == 4);
    CHECK(victim->finish() == Finish::cancelled);
    CHECK(of_victim == 1);  // its second would have come after the first one's, in the same step
    REQUIRE(later.size() == 1);
    CHECK(read_all(later.front()).size() == 2);
}

TEST_CASE("a router that keeps more than it was shown fails the requests of its call") {
    struct Wrong : mor::DefaultArchitecture {
        using Router = TooMany;
    };
    B backend{{.threads = 1}};
    const mor::Model<Wrong, B> model{backend, served_config<Wrong>()};
    mor::Engine engine{model};
    for (int i = 0; i < 2; ++i) {  // the engine goes on
        auto handle = engine.submit(std::vector<mor::TokenId>{1, 2});
        engine.run();
        CHECK(contains(error_of<mor::ShapeError>(handle),
                       "test.too_many kept 3 of 2 rows in step 0"));
        CHECK(engine.counts().running == 0);
    }
}

TEST_CASE("a common beginning stays kept while requests wait for memory") {
    Served s;
    // 60 blocks of 4 entries: room for two requests of 22 tokens in 5 tables each, no more.
    mor::Engine engine{s.model,
                       {.max_batch = 8,
                        .cache_bytes = 60 * 4 * 2 * 16 * static_cast<Index>(sizeof(float)),
                        .block_size = 4,
                        .max_prefixes = 2}};
    std::vector<mor::TokenId> prompt(16, 9);
    constexpr Index count = 30;
    for (Index i = 0; i < count; ++i) {
        prompt.back() = static_cast<mor::TokenId>(i);
        static_cast<void>(engine.submit(prompt, {.max_new_tokens = 6}));
    }
    engine.run();
    // All but the first two, which begin beside each other.
    CHECK(engine.counts().reused_tokens == (count - 2) * 15);
    engine.forget_prefixes();
    CHECK(engine.cache_bytes_in_use() == 0);
}

TEST_CASE("keys of a request with another depth limit are not used again") {
    Served s;
    const std::vector<mor::TokenId> prompt(24, 9);
    const mor::SamplingOptions greedy{.temperature = 0};
    const auto answer = [&](mor::Engine<A, B>& engine, Index max_depth) {
        auto handle = engine.submit(
            prompt, {.max_new_tokens = 8, .sampling = greedy, .max_depth = max_depth});
        engine.run();
        return read_all(handle);
    };
    mor::Engine alone{s.model};
    mor::Engine used{s.model};
    const auto expected = answer(alone, 3);
    static_cast<void>(answer(used, 1));
    CHECK(answer(used, 3) == expected);
    CHECK(used.counts().reused_tokens == 0);
    CHECK(answer(used, 3) == expected);
    CHECK(used.counts().reused_tokens == 23);
}

TEST_CASE("an answer is kept, too: a next prompt that repeats it computes only what is new") {
    Served s;
    mor::Engine engine{s.model};
    auto first = engine.submit(s.prompt, {.max_new_tokens = 30, .sampling = {.temperature = 0}});
    engine.run();
    std::vector<mor::TokenId> next = s.prompt;
    for (const mor::ServedToken& token : read_all(first)) {
        next.push_back(token.token);
    }
    next.push_back(3);
    auto second = engine.submit(next, {.max_new_tokens = 2});
    engine.run();
    CHECK(read_all(second).size() == 2);
    CHECK(engine.counts().reused_tokens == 5 + 29);  // the last token was never read
}

TEST_CASE("static batches stay full when prefixes are reused") {
    Served s;
    Index largest = 0;
    mor::Engine<A, B, mor::StaticBatch> engine{
        s.model, {.max_batch = 8, .on_call = [&](const mor::EngineCall& call) {
                      largest = std::max(largest, call.rows);
                  }}};
    const std::vector<mor::TokenId> prompt(20, 4);
    for (int round = 0; round < 2; ++round) {
        largest = 0;
        for (int i = 0; i < 16; ++i) {
            static_cast<void>(engine.submit(prompt, {.max_new_tokens = 4}));
        }
        engine.run();
        CHECK(largest == 8);
    }
    CHECK(engine.counts().reused_tokens > 100);
}

TEST_CASE("a deep row is not overtaken for ever where steps cannot share a call") {
    struct Encoded : mor::Recursive<> {
        using Relaxation = mor::RecursionEncoding;
    };
    B backend{{.threads = 1}};
    const mor::Model<Encoded, B> model{backend, served_config<Encoded>(), {}, 5};
    mor::Engine engine{model, {.max_batch = 4, .max_sequences = 4}};
    auto deep = engine.submit(std::vector<mor::TokenId>{1}, {.max_new_tokens = 20});
    std::vector<mor::RequestHandle> shallow;
    const auto feed = [&] {
        shallow.push_back(
            engine.submit(std::vector<mor::TokenId>{2}, {.max_new_tokens = 20, .max_depth = 1}));
    };
    int steps = 0;
    for (; deep.finish() == Finish::not_yet && steps < 2000; ++steps) {
        while (engine.counts().waiting < 2) {
            feed();
            engine.step();
        }
        engine.step();
    }
    CHECK(steps < 400);
}

TEST_CASE("the oldest sequence is never preempted while a younger one has memory") {
    Served s;
    // Each step may reuse blocks of whoever was preempted: the oldest must always get on.
    mor::Engine engine{s.model,
                       {.max_batch = 6,
                        .cache_bytes = 60'000,
                        .block_size = 4,
                        .expected_length = 0,
                        .max_prefixes = 0}};
    std::vector<mor::RequestHandle> handles;
    for (int i = 0; i < 30; ++i) {
        handles.push_back(engine.submit(std::vector<mor::TokenId>{i}, {.max_new_tokens = 24}));
    }
    Index stalled = 0;
    Index longest_stall = 0;
    std::size_t oldest = 0;
    std::size_t seen = 0;
    while (engine.step()) {
        while (oldest < handles.size() && handles[oldest].finish() != Finish::not_yet) {
            ++oldest;
            seen = 0;
            stalled = 0;
        }
        if (oldest == handles.size()) {
            continue;
        }
        std::size_t now = seen;
        while (handles[oldest].try_next()) {
            ++now;
        }
        stalled = now == seen ? stalled + 1 : 0;
        seen = now;
        longest_stall = std::max(longest_stall, stalled);
    }
    CHECK(engine.counts().preemptions > 0);
    // A prompt and an answer of 24 tokens recomputed once in chunks of one row: 3 + 2 calls each.
    CHECK(longest_stall < 130);
}

TEST_CASE("memory that kept prefixes hold does not keep requests out") {
    Served s;
    const auto mean_running = [&](Index max_prefixes) {
        mor::Engine engine{s.model,
                           {.max_batch = 16, .cache_bytes = 400'000, .max_prefixes = max_prefixes}};
        for (int i = 0; i < 8; ++i) {
            std::vector<mor::TokenId> prompt(40, i);
            static_cast<void>(engine.submit(prompt, {.max_new_tokens = 1}));
        }
        engine.run();
        for (int i = 0; i < 40; ++i) {
            std::vector<mor::TokenId> prompt(10, 20 + i);
            static_cast<void>(engine.submit(prompt, {.max_new_tokens = 20}));
        }
        Index steps = 0;
        Index running = 0;
        while (engine.step()) {
            ++steps;
            running += engine.counts().running;
        }
        return static_cast<double>(running) / static_cast<double>(steps);
    };
    CHECK(mean_running(8) > 0.8 * mean_running(0));
}

TEST_CASE("counts and cancellations come from other threads while one serves") {
    Served s;
    mor::Engine engine{
        s.model, {.max_batch = 4, .cache_bytes = 60'000, .block_size = 4, .expected_length = 0}};
    std::jthread server{[&](const std::stop_token& stop) { engine.serve(stop); }};
    std::vector<mor::RequestHandle> handles;
    for (int i = 0; i < 40; ++i) {
        handles.push_back(engine.submit(std::vector<mor::TokenId>{i}, {.max_new_tokens = 20}));
        if (i % 7 == 0) {
            handles.back().cancel();
        }
        CHECK(engine.counts().requests <= 40);
    }
    for (mor::RequestHandle& handle : handles) {
        while (handle.finish() == Finish::not_yet) {
            static_cast<void>(handle.next_for(std::chrono::milliseconds{50}));
        }
    }
    server.request_stop();
    server.join();
    CHECK(engine.counts().preemptions > 0);
}

TEST_CASE("a token's keys are stored for the steps that it took, and no others") {
    Served s;
    mor::Engine engine{s.model, {.max_prefixes = 0}};
    auto handle = engine.submit(s.prompt, {.max_new_tokens = 30, .sampling = {.temperature = 0}});
    engine.run();
    const auto generated =
        mor::generate(s.model, s.prompt, {.max_new_tokens = 30, .sampling = {.temperature = 0}});
    Index layers = 0;  // 2 of their own, and one for each step
    for (std::size_t i = 0; i + 1 < generated.tokens.size(); ++i) {
        layers += 2 + generated.tokens[i].depth;
    }
    CHECK(engine.counts().ended_tokens == 5 + 29);
    CHECK(engine.counts().ended_bytes == layers * 2 * 16 * Index{sizeof(float)});
}
