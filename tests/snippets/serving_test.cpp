// SPDX-License-Identifier: Apache-2.0
//
// The code of docs/serving.md.
#include <mor/mor.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <stop_token>
#include <thread>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using Architecture = mor::MoRToken<>;

mor::Model<Architecture, Cpu> small_model(Cpu& cpu) {
    return mor::Model<Architecture, Cpu>{cpu, {.hidden_size = 32, .intermediate_size = 48}};
}

}  // namespace

TEST_CASE("an engine run in the caller's loop") {
    Cpu cpu{{.threads = 1}};
    const auto model = small_model(cpu);
    const std::vector<mor::TokenId> prompt{84, 104, 101, 32};
    int printed = 0;
    const auto show = [&](mor::TokenId, mor::Index) { ++printed; };
    // snippet-begin loop
    mor::Engine engine{model, {.max_batch = 32, .cache_bytes = 1L << 26}};
    mor::RequestHandle greedy =
        engine.submit(prompt, {.max_new_tokens = 20, .sampling = {.temperature = 0}});
    mor::RequestHandle random = engine.submit(
        prompt, {.max_new_tokens = 20, .sampling = {.temperature = 0.8, .top_p = 0.95, .seed = 7}});
    while (engine.step()) {                             // or engine.run()
        while (const auto token = greedy.try_next()) {  // throws what went wrong with this request
            show(token->token, token->depth);
        }
    }
    // snippet-end
    CHECK(printed == 20);
    CHECK(random.finish() == mor::Finish::length);
}

TEST_CASE("an engine on a thread of its own") {
    Cpu cpu{{.threads = 1}};
    const auto model = small_model(cpu);
    const std::vector<mor::TokenId> prompt{84, 104, 101, 32};
    int printed = 0;
    const auto show = [&](mor::TokenId, mor::Index) { ++printed; };
    // snippet-begin thread
    mor::Engine engine{model};
    std::jthread server{[&](const std::stop_token& stop) { engine.serve(stop); }};
    mor::RequestHandle answer = engine.submit(prompt, {.max_new_tokens = 20});
    while (const auto token = answer.next()) {  // waits
        show(token->token, token->depth);
    }
    // snippet-end
    CHECK(printed == 20);
}
