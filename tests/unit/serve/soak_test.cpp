// SPDX-License-Identifier: Apache-2.0
//
// Many short requests with cancellations, little memory, wrong options, logits that are no numbers
// and throwing callbacks: in one loop, and from threads beside the one that serves.
#include <doctest/doctest.h>
#include <unit/serve/serving.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using namespace mor::test;
using mor::Finish;
using mor::Index;
using A = mor::MoRExpert<>;

constexpr mor::TokenId poison = 60;  // its embedding is not a number
constexpr Index count = 20'000;

struct Served {
    explicit Served(Index block_size)
        : engine{poisoned(model),
                 {.max_batch = 8,
                  .max_sequences = 12,
                  .prefill_chunk = 5,
                  // 150 entries: hardly more than one sequence at its longest.
                  .cache_bytes = 150 * 2 * 16 * static_cast<Index>(sizeof(float)),
                  .block_size = block_size,
                  .expected_length = 0,  // so that memory runs short
                  .max_prefixes = 2}} {}

    ServingBackend backend{{.threads = 1}};
    mor::Model<A, ServingBackend> model{backend, config(), {}, 5};
    mor::Engine<A, ServingBackend> engine;

    static mor::ModelConfig config() {
        mor::ModelConfig config = served_config<A>();
        config.hidden_size = 16;
        config.intermediate_size = 16;
        config.num_heads = 1;
        config.tie_embeddings = false;
        return config;
    }
    static mor::Model<A, ServingBackend>& poisoned(mor::Model<A, ServingBackend>& model) {
        model.visit_parameters([](mor::Parameter<ServingBackend>& parameter) {
            if (parameter.name() == "model.embed_tokens.weight") {
                parameter.value_matrix().row(poison)[0] = std::numeric_limits<float>::quiet_NaN();
            }
        });
        return model;
    }
    /// Every block is free again.
    void check_empty() {
        engine.forget_prefixes();
        CHECK(engine.cache_bytes_in_use() == 0);
    }
};

/// How many requests ended in each way.
class Ends {
public:
    void add(Finish how) { ++counts_[static_cast<std::size_t>(how)]; }
    void add(const Ends& other) {
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            counts_[i] += other.counts_[i];
        }
    }
    [[nodiscard]] Index of(Finish how) const { return counts_[static_cast<std::size_t>(how)]; }
    void check() const {
        CHECK(of(Finish::not_yet) == 0);
        CHECK(of(Finish::failed) > count / 8);
        CHECK(of(Finish::cancelled) > count / 40);
        CHECK(of(Finish::stop_token) > count / 100);
        CHECK(of(Finish::length) > count / 2);
    }

private:
    std::array<Index, static_cast<std::size_t>(Finish::failed) + 1> counts_{};
};

/// A client that submits requests of which one in five is wrong, and cancels one in ten.
class Client {
public:
    Client(mor::Engine<A, ServingBackend>& engine, std::uint64_t seed)
        : engine_{engine}, random_{seed} {}

    static constexpr Index throws = 3;  // kinds of requests
    static constexpr Index num_wrong = 5;

    struct Pending {
        mor::RequestHandle handle;
        Index submitted = 0;  // when
        Index kind = 0;       // below num_wrong: something is wrong with it

        /// An error is its own, and stays its own.
        void check_end(Finish how) const {
            if (kind >= num_wrong) {
                CHECK(how != Finish::failed);
            } else if (how != Finish::cancelled) {
                // A callback that throws is not called if the first token stops the answer.
                const bool is_silent = kind == throws && how == Finish::stop_token;
                CHECK((how == Finish::failed || is_silent));
            }
        }
    };
    std::deque<Pending> pending;

    void submit(Index now) {
        mor::RequestOptions options{.max_new_tokens = integer(1, 12), .stop_tokens = {poison}};
        auto prompt = mor::testing::uniform_integers<mor::TokenId>(random_, integer(1, 14), 0, 60);
        const Index kind = integer(0, 20);
        if (kind == 0) {
            prompt.clear();
        } else if (kind == 1) {
            options.sampling.top_p = 0;
        } else if (kind == 2) {
            options.max_new_tokens = 60;  // needs more memory than there is
        } else if (kind == throws) {
            options.on_token = [](const mor::ServedToken&) { throw std::runtime_error{"no"}; };
            options.on_finish = [](Finish, const std::exception_ptr&) {
                throw std::runtime_error{"no"};
            };
        } else if (kind == 4) {
            prompt.back() = poison;
        }
        pending.push_back({engine_.submit(prompt, options), now, kind});
        if (kind >= 18) {
            pending[static_cast<std::size_t>(integer(0, std::ssize(pending)))].handle.cancel();
        }
    }

private:
    Index integer(Index first, Index last) {
        return mor::testing::uniform_integers(random_, 1, first, last).front();
    }

    mor::Engine<A, ServingBackend>& engine_;
    mor::Random random_;
};

/// Waits for the end of the oldest request.
Finish end_of_oldest(Client& client) {
    mor::RequestHandle& oldest = client.pending.front().handle;
    try {
        while (oldest.next_for(std::chrono::minutes{1})) {
        }
    } catch (const std::exception&) {  // what was wrong with it
    }
    const Finish how = oldest.finish();
    client.pending.front().check_end(how);
    client.pending.pop_front();
    return how;
}

}  // namespace

TEST_CASE("20,000 requests leave nothing behind, and none waits for ever") {
    Served s{2};
    Client client{s.engine, 3};
    Ends ends;
    Index steps = 0;
    Index longest_wait = 0;
    const auto settle = [&] {
        for (auto at = client.pending.begin(); at != client.pending.end();) {
            const Finish how = at->handle.finish();
            if (how == Finish::not_yet) {
                ++at;
                continue;
            }
            at->check_end(how);
            ends.add(how);
            longest_wait = std::max(longest_wait, steps - at->submitted);
            at = client.pending.erase(at);
        }
    };
    for (Index i = 0; i < count; ++i) {
        client.submit(steps);
        while (std::ssize(client.pending) > 40) {
            s.engine.step();
            ++steps;
            settle();
        }
    }
    while (s.engine.step()) {
        ++steps;
    }
    settle();
    CHECK(client.pending.empty());
    ends.check();
    CHECK(s.engine.counts().preemptions > 100);
    MESSAGE("longest wait ", longest_wait, " of ", steps, " steps, ", s.engine.counts().preemptions,
            " preemptions");
    // 40 requests of up to 24 tokens with 3 + 2 calls each, one row a call, would be 4,800.
    CHECK(longest_wait < 1'000);
    s.check_empty();
}

TEST_CASE("so it is when requests come from other threads than the one that serves") {
    Served s{1};
    constexpr std::size_t num_clients = 2;
    std::array<Ends, num_clients> ends_of;
    {
        const std::jthread server{[&](const std::stop_token& stop) { s.engine.serve(stop); }};
        std::vector<std::jthread> clients;
        for (std::size_t c = 0; c < num_clients; ++c) {
            clients.emplace_back([&, c] {
                Client client{s.engine, c};
                for (Index i = 0; i < count / static_cast<Index>(num_clients); ++i) {
                    client.submit(0);
                    while (client.pending.size() > 20) {
                        ends_of[c].add(end_of_oldest(client));
                    }
                }
                while (!client.pending.empty()) {
                    ends_of[c].add(end_of_oldest(client));
                }
            });
        }
    }
    Ends ends;
    for (const Ends& each : ends_of) {
        ends.add(each);
    }
    ends.check();
    CHECK(s.engine.counts().preemptions > 100);
    s.check_empty();
}
