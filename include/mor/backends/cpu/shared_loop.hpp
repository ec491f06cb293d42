// SPDX-License-Identifier: Apache-2.0
//
// A loop that several threads share. Each has a piece of the range, and takes chunks from its
// beginning; who is done goes on with the pieces of others. Which chunks there are depends on the
// numbers alone, so results do not depend on who came first.
#pragma once

#include <mor/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace mor::cpu::detail {

/// How a loop over [0, count) is cut: into pieces, and each into one to six chunks of at least
/// `grain` items if there are so many.
struct LoopCuts {
    struct Range {
        Index first;
        Index last;
    };
    static constexpr Index most_chunks = 6;

    Index count = 0;
    Index grain = 1;
    Index pieces = 0;

    [[nodiscard]] Index chunks(Index piece) const {
        return std::clamp<Index>((begin(piece + 1) - begin(piece)) / grain, 1, most_chunks);
    }
    [[nodiscard]] Range range(Index piece, Index chunk) const {
        const Index size = begin(piece + 1) - begin(piece);
        const Index num_chunks = chunks(piece);
        return {begin(piece) + size * chunk / num_chunks,
                begin(piece) + size * (chunk + 1) / num_chunks};
    }

private:
    [[nodiscard]] Index begin(Index piece) const { return count * piece / pieces; }
};

class SharedLoop {
public:
    /// For loops of at most so many pieces. All memory is taken here.
    explicit SharedLoop(Index most_pieces) : pieces_{static_cast<std::size_t>(most_pieces)} {}

    /// Takes this loop for `holders` threads, unless another loop still has it.
    [[nodiscard]] bool take(Index holders) {
        Index nobody = 0;
        return holders_.load(std::memory_order_relaxed) == 0 &&
               holders_.compare_exchange_strong(nobody, holders, std::memory_order_acquire,
                                                std::memory_order_relaxed);
    }
    /// Gives it back on behalf of `holders` threads. The last one's loop is the next one's.
    void give_back(Index holders = 1) { holders_.fetch_sub(holders, std::memory_order_release); }

    /// Makes it a loop that is cut so. Nobody may be at work yet; the body must live until
    /// finish().
    template <class Body>
    void begin(const LoopCuts& cuts, Body& body) {
        cuts_ = cuts;
        body_ = const_cast<void*>(static_cast<const void*>(std::addressof(body)));
        call_ = [](void* erased, Index first, Index last) {
            (*static_cast<Body*>(erased))(first, last);
        };
        for (Index piece = 0; piece < cuts.pieces; ++piece) {
            next(piece).store(0, std::memory_order_relaxed);
        }
        unfinished_.store(cuts.count, std::memory_order_relaxed);
    }

    /// Takes chunks, first of piece number `own`, until none is left. The first exception of a
    /// chunk is kept for finish(). Who comes when all is done finds nothing to do.
    void work(Index own) noexcept {
        const Inside inside;
        for (Index i = 0; i < cuts_.pieces; ++i) {
            const Index piece = (own + i) % cuts_.pieces;
            const Index chunks = cuts_.chunks(piece);
            while (next(piece).load(std::memory_order_relaxed) < chunks) {
                const Index chunk = next(piece).fetch_add(1, std::memory_order_relaxed);
                if (chunk >= chunks) {
                    break;
                }
                const auto [first, last] = cuts_.range(piece, chunk);
                try {
                    call_(body_, first, last);
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

    /// Waits for the chunks that others are at, and gives the loop back for the caller. Rethrows an
    /// exception of a chunk.
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
        const std::exception_ptr failure = std::exchange(failure_, nullptr);
        give_back();
        if (failure) {
            std::rethrow_exception(failure);
        }
    }

    /// Whether this thread is at work in a loop.
    [[nodiscard]] static bool is_inside() { return Inside::of_this_thread(); }

private:
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

    std::atomic<Index>& next(Index piece) { return pieces_[static_cast<std::size_t>(piece)].next; }

    LoopCuts cuts_;
    void* body_ = nullptr;
    void (*call_)(void*, Index, Index) = nullptr;
    std::vector<Piece> pieces_;
    std::mutex failure_mutex_;
    std::exception_ptr failure_;
    std::atomic<Index> holders_ = 0;
    alignas(64) std::atomic<Index> unfinished_ = 0;  // items; written by all
};

}  // namespace mor::cpu::detail
