// SPDX-License-Identifier: Apache-2.0
//
// A system for the kernels of the CUDA backend whose teams are threads of the processor, so that
// what threads of a team owe to each other is tested where there is no GPU: a missing sync is a
// race, which the thread sanitizer sees, and shared memory begins as NaN.
#pragma once

#include <mor/backends/cuda/host_system.hpp>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace backend_tests {

class ThreadedSystem : public mor::cuda::HostSystem {
    using Index = mor::Index;
    static constexpr Index team_size = 6;  // two parts of three columns; divides few sizes

    /// What the threads of a team share.
    struct Common {
        std::barrier<> barrier{team_size};
        std::array<std::array<std::byte, sizeof(double)>, static_cast<std::size_t>(team_size)>
            slots{};
        std::vector<std::byte> shared;
    };

public:
    static constexpr std::string_view name = "cuda-threads";

    class Team {
    public:
        Team(Index rank, Common& common) : rank_{rank}, common_{&common} {}

        [[nodiscard]] Index rank() const { return rank_; }
        [[nodiscard]] Index size() const { return team_size; }
        void sync() const { common_->barrier.arrive_and_wait(); }
        template <class T>
        [[nodiscard]] T sum(T x) const {
            return reduce(x, [](T a, T b) { return a + b; });
        }
        template <class T>
        [[nodiscard]] T max(T x) const {
            return reduce(x, [](T a, T b) { return b > a ? b : a; });
        }
        template <class T>
        [[nodiscard]] T* shared() const {
            return static_cast<T*>(static_cast<void*>(common_->shared.data()));
        }

    private:
        template <class T, class Operation>
        [[nodiscard]] T reduce(T x, const Operation& operation) const {
            static_assert(sizeof(T) <= sizeof(double));
            std::memcpy(common_->slots[static_cast<std::size_t>(rank_)].data(), &x, sizeof(T));
            sync();
            T result{};
            for (std::size_t i = 0; i < common_->slots.size(); ++i) {
                T value;
                std::memcpy(&value, common_->slots[i].data(), sizeof(T));
                result = i == 0 ? value : operation(result, value);
            }
            sync();
            return result;
        }

        Index rank_;
        Common* common_;
    };

    template <class Body>
    void for_each(Index n, const Body& body) const {
        start(std::min(n, team_size), [&](Index rank) {
            for (Index i = rank; i < n; i += team_size) {
                body(i);
            }
        });
    }

    template <class Body>
    void for_each_team(Index n, const Body& body) const {
        for_each_team(n, 0, body);
    }
    template <class Body>
    void for_each_team(Index n, std::size_t shared_bytes, const Body& body) const {
        Common common;
        common.shared.resize(shared_bytes, std::byte{0xFF});
        start(n == 0 ? 0 : team_size, [&](Index rank) {
            Team team{rank, common};
            for (Index i = 0; i < n; ++i) {
                body(team, i);
            }
        });
    }

private:
    template <class Body>
    static void start(Index threads, const Body& body) {
        std::vector<std::jthread> running;
        for (Index rank = 0; rank < threads; ++rank) {
            running.emplace_back([&body, rank] { body(rank); });
        }
    }
};
static_assert(mor::cuda::System<ThreadedSystem>);

}  // namespace backend_tests
