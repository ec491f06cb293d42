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

namespace mor::cpu::detail {

class SharedLoop {
public:
    /// `pieces` pieces of [0, count), each in up to a few chunks of at least `grain` items.
    SharedLoop(Index count, Index grain, Index pieces)
        : count_{count},
          num_pieces_{pieces},
          pieces_{std::make_unique<Piece[]>(static_cast<std::size_t>(pieces))} {
        constexpr Index most_chunks = 6;
        const Index longest = (count + pieces - 1) / pieces;
        const Index shortest = std::max<Index>(1, grain);
        const Index wanted = (longest + most_chunks - 1) / most_chunks;
        chunk_ = (wanted + shortest - 1) / shortest * shortest;
        unfinished_ = count;
    }

    /// Takes chunks, the first of piece number `own`, until none is left.
    template <class Body>
    void work(Index own, Body& body) noexcept {
        for (Index i = 0; i < num_pieces_; ++i) {
            const Index piece = (own + i) % num_pieces_;
            const Index begin = count_ * piece / num_pieces_;
            const Index end = count_ * (piece + 1) / num_pieces_;
            auto& next = pieces_[static_cast<std::size_t>(piece)].next;
            while (begin + next.load(std::memory_order_relaxed) < end) {
                const Index first = begin + next.fetch_add(chunk_, std::memory_order_relaxed);
                if (first >= end) {
                    break;
                }
                const Index last = std::min(end, first + chunk_);
                try {
                    body(first, last);
                } catch (...) {
                    const std::lock_guard lock{failure_mutex_};
                    failure_ = std::current_exception();
                }
                unfinished_.fetch_sub(last - first, std::memory_order_acq_rel);
            }
        }
    }

    /// Waits for what others have taken. An exception of a chunk is rethrown.
    void finish() {
        // Chunks are short, so what is left to wait is shorter than falling asleep and waking up.
        constexpr int patience = 2'000;
        for (int i = 0; unfinished_.load(std::memory_order_acquire) > 0; i += i < patience) {
            if (i == patience) {
                std::this_thread::yield();
            }
        }
        if (failure_) {
            std::rethrow_exception(failure_);
        }
    }

private:
    struct alignas(64) Piece {
        std::atomic<Index> next = 0;  // items taken
    };

    Index count_;
    Index num_pieces_;
    Index chunk_ = 1;
    std::unique_ptr<Piece[]> pieces_;
    std::atomic<Index> unfinished_ = 0;  // items
    std::mutex failure_mutex_;
    std::exception_ptr failure_;
};

}  // namespace mor::cpu::detail
