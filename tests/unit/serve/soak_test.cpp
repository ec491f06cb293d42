// SPDX-License-Identifier: Apache-2.0
//
// Many short requests with cancellations, little memory, wrong options and throwing callbacks.
#include <doctest/doctest.h>
#include <unit/serve/serving.hpp>

#include <algorithm>
#include <deque>
#include <stdexcept>
#include <vector>

namespace {

using namespace mor::test;
using mor::Finish;
using mor::Index;

}  // namespace

TEST_CASE("20,000 requests leave nothing behind, and none waits for ever") {
    using A = mor::MoRExpert<>;
    ServingBackend backend{{.threads = 1}};
    mor::ModelConfig config = served_config<A>();
    config.hidden_size = 16;
    config.intermediate_size = 16;
    config.num_heads = 1;
    mor::Model<A, ServingBackend> model{backend, config, {}, 5};
    // 240 blocks of one entry: two or three sequences at their longest.
    mor::Engine engine{model,
                       {.max_batch = 8,
                        .max_sequences = 12,
                        .prefill_chunk = 5,
                        .cache_bytes = 240 * 2 * 16 * static_cast<Index>(sizeof(float)),
                        .block_size = 1,
                        .max_prefixes = 2}};
    constexpr Index count = 20'000;
    struct Pending {
        mor::RequestHandle handle;
        Index submitted = 0;  // after how many steps of the engine
    };
    std::deque<Pending> pending;
    mor::Random random{3};
    const auto integer = [&](Index first, Index last) {
        return mor::testing::uniform_integers(random, 1, first, last).front();
    };
    std::vector<Index> finished(static_cast<std::size_t>(Finish::failed) + 1, 0);
    Index steps = 0;
    Index longest_wait = 0;
    const auto settle = [&] {
        for (auto at = pending.begin(); at != pending.end();) {
            const Finish how = at->handle.finish();
            if (how == Finish::not_yet) {
                ++at;
                continue;
            }
            ++finished[static_cast<std::size_t>(how)];
            longest_wait = std::max(longest_wait, steps - at->submitted);
            at = pending.erase(at);
        }
    };
    for (Index i = 0; i < count; ++i) {
        mor::RequestOptions options{.max_new_tokens = integer(1, 12)};
        std::vector<mor::TokenId> prompt =
            mor::testing::uniform_integers<mor::TokenId>(random, integer(1, 14), 0, 61);
        const Index kind = integer(0, 20);
        if (kind == 0) {
            prompt.clear();
        } else if (kind == 1) {
            options.sampling.top_p = 0;
        } else if (kind == 2) {
            options.max_new_tokens = 60;  // needs more memory than there is
        } else if (kind == 3) {
            options.on_token = [](const mor::ServedToken&) { throw std::runtime_error{"no"}; };
        }
        pending.push_back({engine.submit(prompt, options), steps});
        if (kind >= 18) {
            pending[static_cast<std::size_t>(integer(0, std::ssize(pending)))].handle.cancel();
        }
        while (std::ssize(pending) > 40) {
            engine.step();
            ++steps;
            settle();
        }
    }
    while (engine.step()) {
        ++steps;
    }
    settle();
    CHECK(pending.empty());
    CHECK(finished[static_cast<std::size_t>(Finish::failed)] > count / 8);
    CHECK(finished[static_cast<std::size_t>(Finish::cancelled)] > count / 40);
    CHECK(finished[static_cast<std::size_t>(Finish::length)] > count / 2);
    CHECK(engine.counts().preemptions > 100);
    // 40 requests of at most 22 tokens with 3 + 2 calls each, one row a call, would be 4,400; these
    // have up to 24.
    MESSAGE("longest wait ", longest_wait, " of ", steps, " steps, ", engine.counts().preemptions,
            " preemptions");
    CHECK(longest_wait < 4'400);
    engine.forget_prefixes();
    CHECK(engine.cache_bytes_in_use() == 0);
}
