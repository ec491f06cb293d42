// SPDX-License-Identifier: Apache-2.0
//
// The kernels of the CUDA backend on the processor, one thread a team. Its memory is a space of its
// own: code that would read a GPU's memory directly does not compile here either.
#pragma once

#include <mor/backends/cuda/system.hpp>

#include <thrust/system/cpp/execution_policy.h>

namespace mor::cuda {

struct HostSystem {
    struct Space : HostSpace {};
    static constexpr std::string_view name = "cuda-host";

    struct Team {
        [[nodiscard]] Index rank() const { return 0; }
        [[nodiscard]] Index size() const { return 1; }
        void sync() const {}
        template <class T>
        [[nodiscard]] T sum(T x) const {
            return x;
        }
        template <class T>
        [[nodiscard]] T max(T x) const {
            return x;
        }
    };

    template <class Body>
    void for_each(Index n, const Body& body) const {
        for (Index i = 0; i < n; ++i) {
            body(i);
        }
    }

    template <class Body>
    void for_each_team(Index n, const Body& body) const {
        Team team;
        for (Index i = 0; i < n; ++i) {
            body(team, i);
        }
    }

    [[nodiscard]] auto policy() const { return thrust::cpp::par; }
};
static_assert(System<HostSystem>);

}  // namespace mor::cuda
