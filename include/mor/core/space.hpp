// SPDX-License-Identifier: Apache-2.0
//
// Where memory lives. A space is part of every view's type, so that a host pointer cannot reach
// a kernel of another device.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <new>

namespace mor {

/// Allocates, clears and copies raw bytes of one kind of memory.
template <class S>
concept MemorySpace = requires(void* p, const void* source, std::size_t bytes) {
    { S::allocate(bytes) } -> std::same_as<void*>;
    { S::deallocate(p) } noexcept;
    { S::zero(p, bytes) };
    { S::copy_from_host(p, source, bytes) };
    { S::copy_to_host(p, source, bytes) };
};

/// Ordinary memory, aligned for the widest vector instructions.
struct HostSpace {
    static constexpr std::size_t alignment = 64;

    static void* allocate(std::size_t bytes) {
        return ::operator new(bytes, std::align_val_t{alignment});
    }
    static void deallocate(void* p) noexcept { ::operator delete(p, std::align_val_t{alignment}); }
    // Empty views and vectors may have null addresses, which memset and memcpy do not allow.
    static void zero(void* p, std::size_t bytes) {
        if (bytes > 0) {
            std::memset(p, 0, bytes);
        }
    }
    static void copy_from_host(void* destination, const void* source, std::size_t bytes) {
        if (bytes > 0) {
            std::memcpy(destination, source, bytes);
        }
    }
    static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
        copy_from_host(destination, source, bytes);
    }
};
static_assert(MemorySpace<HostSpace>);

}  // namespace mor
