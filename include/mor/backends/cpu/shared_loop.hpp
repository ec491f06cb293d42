// SPDX-License-Identifier: Apache-2.0
//
// A loop that several threads share. Each has a piece of the range, and takes chunks from its
// beginning; who is done goes on with the pieces of others. Which chunks there are depends on the
// numbers alone, so results do not depend on who came first.
#pragma once

#include <mor/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace mor::cpu::detail {

class SharedLoop {
public:
    /// `pieces` pieces of [0, count), each in one to six chunks of at least `grain` items if there
    /// are so many.
    SharedLoop(Index count, Index grain, Index pieces)
        : count_{count},
          grain_{std::max<Index>(1, grain)},
          num_pieces_{pieces},
          pieces_{std::make_unique<Piece[]>(static_cast<std::size_t>(pieces))},
          unfinished_{count} {}

    /// Takes chunks, first of piece number `own`, until none is left. The first exception of a
    /// chunk is kept for finish().
    template <class Body>
    void work(Index own, Body& body) noexcept {
        const Inside inside;
        for (Index i = 0; i < num_pieces_; ++i) {
            const Index piece = (own + i) % num_pieces_;
            const Index begin = count_ * piece / num_pieces_;
            const Index size = count_ * (piece + 1) / num_pieces_ - begin;
            const Index chunks = std::clamp<Index>(size / grain_, 1, most_chunks);
            auto& next = pieces_[static_cast<std::size_t>(piece)].next;
            while (next.load(std::memory_order_relaxed) < chunks) {
                const Index chunk = next.fetch_add(1, std::memory_order_relaxed);
                if (chunk >= chunks) {
                    break;
                }
                const Index first = begin + size * chunk / chunks;
                const Index last = begin + size * (chunk + 1) / chunks;
                try {
                    body(first, last);
                } catch (...) {
                    const std::lock_guard lock{failure_mutex_};
                    if (!failure_) {
                        failure_ = std::current_exception();
                    }
                }
                unfinished_.fetch_sub(last - first, std::memory_order_acq_rel);
            }
        }
    }

    /// Waits for the chunks that others are at. Rethrows an exception of a chunk.
    void finish() {
        // The last chunks end at about the same time, mostly before a thread could fall asleep and
        // wake up.
        constexpr int patience = 2'000;
        int waited = 0;
        while (unfinished_.load(std::memory_order_acquire) > 0) {
            if (waited < patience) {
                ++waited;
            } else {
                std::this_thread::yield();
            }
        }
        // The exception leaves with the caller: a thread that wakes up late and destroys the loop
        // must not destroy what the caller is reading.
        if (failure_) {
            std::rethrow_exception(std::exchange(failure_, nullptr));
        }
    }

    /// Whether this thread is at work in a loop.
    [[nodiscard]] static bool is_inside() { return Inside::of_this_thread(); }

private:
    static constexpr Index most_chunks = 6;

    struct Inside {
        Inside() = default;
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        ~Inside() { of_this_thread() = before; }
        static bool& of_this_thread() {
            thread_local bool inside = false;
            return inside;
        }
        bool before = std::exchange(of_this_thread(), true);
    };

    struct alignas(64) Piece {
        std::atomic<Index> next = 0;  // chunk
    };

    Index count_;
    Index grain_;
    Index num_pieces_;
    std::unique_ptr<Piece[]> pieces_;
    alignas(64) std::atomic<Index> unfinished_;  // items; written by all, as nothing before it is
    std::mutex failure_mutex_;
    std::exception_ptr failure_;
};

}  // namespace mor::cpu::detail
