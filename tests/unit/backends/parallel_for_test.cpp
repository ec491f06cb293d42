// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

TEST_CASE("a nested parallel loop covers its range and does not hang") {
    const mor::Cpu<float> cpu{{.threads = 2}};
    std::atomic<mor::Index> calls = 0;
    cpu.parallel_for(8, 1, [&](mor::Index first, mor::Index last) {
        for (mor::Index i = first; i < last; ++i) {
            cpu.parallel_for(4, 1, [&](mor::Index from, mor::Index to) { calls += to - from; });
        }
    });
    CHECK(calls == 32);
}

TEST_CASE("an exception of any piece reaches the caller") {
    const mor::Cpu<float> cpu{{.threads = 2}};
    for (const mor::Index bad : {0, 7}) {
        CHECK_THROWS_AS(cpu.parallel_for(8, 1,
                                         [bad](mor::Index first, mor::Index last) {
                                             if (first <= bad && bad < last) {
                                                 throw std::runtime_error{"piece"};
                                             }
                                         }),
                        std::runtime_error);
    }
}

// Many times, for the thread sanitizer: a thread that comes late must not destroy the exception.
TEST_CASE("an exception outlives its loop") {
    const mor::Cpu<float> cpu{{.threads = 4}};
    for (int round = 0; round < 1'000; ++round) {
        std::string message;
        try {
            cpu.parallel_for(16, 1, [](mor::Index first, mor::Index) {
                throw std::runtime_error{"the part that begins at " + std::to_string(first)};
            });
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        REQUIRE(message.starts_with("the part that begins at "));
    }
}

TEST_CASE("more callers at once than a backend has loops for") {
    const mor::Cpu<float> cpu{{.threads = 2}};
    std::atomic<mor::Index> items = 0;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 40; ++caller) {
        callers.emplace_back([&] {
            for (int loop = 0; loop < 50; ++loop) {
                cpu.parallel_for(8, 1,
                                 [&](mor::Index first, mor::Index last) { items += last - first; });
            }
        });
    }
    for (std::thread& caller : callers) {
        caller.join();
    }
    CHECK(items == mor::Index{40} * 50 * 8);
}

TEST_CASE("an absurd number of threads is refused") {
    CHECK_THROWS_AS((mor::Cpu<float>{{.threads = -1}}), mor::ConfigError);
    CHECK_THROWS_AS((mor::Cpu<float>{{.threads = mor::Index{1} << 32}}), mor::ConfigError);
}

TEST_CASE("every item is in one part, and parts are no smaller than the grain") {
    for (const mor::Index threads : {1, 2, 3, 7}) {
        const mor::Cpu<float> cpu{{.threads = threads}};
        for (const mor::Index count : {0, 1, 5, 100, 1'000}) {
            for (const mor::Index grain : {1, 30, 5'000}) {
                std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
                std::atomic<mor::Index> smallest = count;
                cpu.parallel_for(count, grain, [&](mor::Index first, mor::Index last) {
                    for (mor::Index i = first; i < last; ++i) {
                        ++seen[static_cast<std::size_t>(i)];
                    }
                    mor::Index before = smallest;
                    while (last - first < before &&
                           !smallest.compare_exchange_weak(before, last - first)) {
                    }
                });
                CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
                CHECK(smallest >= std::min(grain, count));
            }
        }
    }
}

// Many short loops: a thread that was asleep finds loops that have ended, whose bodies are gone.
TEST_CASE("loops end before the threads that come late") {
    const mor::Cpu<float> cpu{{.threads = 4}};
    for (int round = 0; round < 3'000; ++round) {
        std::atomic<mor::Index> sum = 0;
        const auto body = std::make_unique<mor::Index>(round);
        cpu.parallel_for(4, 1,
                         [&](mor::Index first, mor::Index last) { sum += (last - first) * *body; });
        REQUIRE(sum == 4 * round);
    }
}
