// SPDX-License-Identifier: Apache-2.0
//
// Sums over the threads of a team that come before each.
#pragma once

#include <mor/backends/cuda/system.hpp>

namespace mor::cuda::detail {

/// No team has more threads: a block of a GPU cannot.
inline constexpr Index most_team_threads = 1'024;

/// The sum of x over the threads before this one; called by all threads of the team. memory: a
/// number a thread, shared by the team, free again afterwards.
template <class T, class Team>
[[nodiscard]] MOR_HOST_DEVICE T sum_before(Team& team, T x, T* memory) {
    const Index rank = team.rank();
    T sum = x;  // over this thread and some before it, twice as many after each round
    memory[rank] = sum;
    team.sync();
    for (Index distance = 1; distance < team.size(); distance *= 2) {
        const T before = rank >= distance ? memory[rank - distance] : T{0};
        team.sync();
        sum += before;
        memory[rank] = sum;
        team.sync();
    }
    return sum - x;
}

}  // namespace mor::cuda::detail
