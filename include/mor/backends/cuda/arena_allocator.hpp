// SPDX-License-Identifier: Apache-2.0
//
// Temporary memory of Thrust's algorithms, from the arena of a context.
#pragma once

#include <mor/core/arena.hpp>
#include <mor/core/space.hpp>

#include <cstddef>

namespace mor::cuda {

/// Gives back what it allocated when it is destroyed: Thrust's temporaries, like those of a
/// kernel, need no more than a scope.
template <MemorySpace Space>
class ArenaAllocator {
public:
    using value_type = char;

    explicit ArenaAllocator(Arena<Space>& arena) : arena_{&arena}, scope_{arena} {}

    [[nodiscard]] char* allocate(std::ptrdiff_t bytes) {
        return arena_->template make<char, 1>({bytes}).data();
    }
    void deallocate(char* /*p*/, std::size_t /*bytes*/) {}

private:
    Arena<Space>* arena_;
    typename Arena<Space>::Scope scope_;
};

}  // namespace mor::cuda
