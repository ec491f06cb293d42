// SPDX-License-Identifier: Apache-2.0
//
// Arena<Space>: stack-like scratch memory. Activations and temporaries of a pass are carved from
// it and given back together; once passes repeat, the arena does not grow any more.
#pragma once

#include <mor/core/space.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace mor {

template <MemorySpace Space>
class Arena {
public:
    /// A position to return to; see release().
    struct Mark {
        std::size_t chunk = 0;
        std::size_t used = 0;
    };

    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { free_all(); }

    /// Uninitialised memory for a view of the given extents, valid until its mark is released.
    template <class T, int Rank>
    [[nodiscard]] View<T, Rank, Space> make(const typename View<T, Rank, Space>::Extents& extents) {
        static_assert(std::is_trivially_copyable_v<T>);
        const View<T, Rank, Space> sized{nullptr, extents};
        return {static_cast<T*>(take(static_cast<std::size_t>(sized.size()) * sizeof(T))), extents};
    }

    /// The same, set to zero.
    template <class T, int Rank>
    [[nodiscard]] View<T, Rank, Space> make_zero(
        const typename View<T, Rank, Space>::Extents& extents) {
        const auto view = make<T, Rank>(extents);
        Space::zero(view.data(), static_cast<std::size_t>(view.size()) * sizeof(T));
        return view;
    }

    [[nodiscard]] Mark mark() const { return {current_, current_ < chunks_.size() ? used_ : 0}; }

    /// Gives back everything made after `mark`. When nothing is left in use and the memory had
    /// grown in pieces, the pieces become one.
    void release(const Mark& mark) noexcept {
        current_ = mark.chunk;
        used_ = mark.used;
        if (current_ == 0 && used_ == 0 && chunks_.size() > 1) {
            const std::size_t bytes = capacity_bytes();
            free_all();
            try {
                grow(bytes);
            } catch (...) {
                // Destructors come here: without the memory the arena stays empty, and whoever
                // makes the next view gets the exception.
                free_all();
            }
        }
    }

    /// Bytes held, used or not: the high-water mark of all passes so far.
    [[nodiscard]] std::size_t capacity_bytes() const {
        std::size_t bytes = 0;
        for (const Chunk& chunk : chunks_) {
            bytes += chunk.bytes;
        }
        return bytes;
    }

    /// How often memory was taken from the system; constant once warmed up.
    [[nodiscard]] Index allocations() const { return allocations_; }

    /// Releases on scope exit what was made inside the scope.
    class Scope {
    public:
        explicit Scope(Arena& arena) : arena_{arena}, mark_{arena.mark()} {}
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
        ~Scope() { arena_.release(mark_); }

    private:
        Arena& arena_;
        Mark mark_;
    };

private:
    struct Chunk {
        void* data;
        std::size_t bytes;
    };
    static constexpr std::size_t alignment = 64;
    static constexpr std::size_t smallest_chunk = std::size_t{1} << 20;

    void* take(std::size_t bytes) {
        const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
        while (current_ < chunks_.size() && used_ + rounded > chunks_[current_].bytes) {
            ++current_;
            used_ = 0;
        }
        if (current_ == chunks_.size()) {
            grow(std::max({rounded, smallest_chunk, capacity_bytes() / 2}));
        }
        void* const p = static_cast<std::byte*>(chunks_[current_].data) + used_;
        used_ += rounded;
        return p;
    }

    void grow(std::size_t bytes) {
        chunks_.reserve(chunks_.size() + 1);  // so that a chunk once allocated is never lost
        chunks_.push_back({Space::allocate(bytes), bytes});
        current_ = chunks_.size() - 1;
        used_ = 0;
        ++allocations_;
    }

    void free_all() noexcept {
        for (const Chunk& chunk : chunks_) {
            Space::deallocate(chunk.data);
        }
        chunks_.clear();
        current_ = 0;
        used_ = 0;
    }

    std::vector<Chunk> chunks_;
    std::size_t current_ = 0;
    std::size_t used_ = 0;
    Index allocations_ = 0;
};

}  // namespace mor
