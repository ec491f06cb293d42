// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>

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

TEST_CASE("an absurd number of threads is refused") {
    CHECK_THROWS_AS((mor::Cpu<float>{{.threads = -1}}), mor::ConfigError);
    CHECK_THROWS_AS((mor::Cpu<float>{{.threads = mor::Index{1} << 32}}), mor::ConfigError);
}
