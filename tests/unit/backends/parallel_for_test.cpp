// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
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

TEST_CASE("a caller whose loops all wait for a thread works alone, and in the same parts") {
    using Part = std::pair<mor::Index, mor::Index>;
    const mor::Cpu<float> cpu{{.threads = 2}};
    const auto parts = [&cpu](mor::Index bad) {
        std::vector<Part> found;
        std::mutex mutex;
        cpu.parallel_for(100, 5, [&](mor::Index first, mor::Index last) {
            if (first <= bad && bad < last) {
                throw std::runtime_error{"part"};
            }
            const std::lock_guard lock{mutex};
            found.emplace_back(first, last);
        });
        std::sort(found.begin(), found.end());
        return found;
    };
    const auto expected = parts(-1);
    CHECK(expected.size() > 2);

    // Two chunks keep their caller and the only other thread; each later loop stays taken, as it
    // has a task for it.
    std::atomic<int> inside = 0;
    std::atomic<bool> may_leave = false;
    std::thread caller{[&] {
        cpu.parallel_for(2, 1, [&](mor::Index, mor::Index) {
            ++inside;
            while (!may_leave) {
                std::this_thread::yield();
            }
        });
    }};
    while (inside < 2) {
        std::this_thread::yield();
    }
    for (int loop = 0; loop < 100; ++loop) {
        REQUIRE(parts(-1) == expected);
    }
    CHECK_THROWS_AS(static_cast<void>(parts(50)), std::runtime_error);
    may_leave = true;
    caller.join();
    CHECK(parts(-1) == expected);
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
