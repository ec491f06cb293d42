// SPDX-License-Identifier: Apache-2.0
//
// The Cpu backend object: how many threads, and a parallel loop over them.
#pragma once

#include <mor/backends/cpu/eigen.hpp>
#include <mor/backends/cpu/factors.hpp>
#include <mor/backends/cpu/shared_loop.hpp>
#include <mor/backends/cpu/vector_instructions.hpp>
#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>

#include <algorithm>
#include <concepts>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mor {

namespace cpu {

template <class T, class Factor>
class PackedWeight;

}  // namespace cpu

/// `Factor` is what products round their factors to before they multiply them: T, which rounds
/// nothing, or BFloat16, with sums in float. Everything else computes in T either way, and so do
/// forward products with a handful of columns, which decide where tokens go.
template <std::floating_point T, cpu::ProductFactor<T> Factor = T>
class Cpu {
public:
    using Element = T;
    using PackedWeight = cpu::PackedWeight<T, Factor>;
    using Space = HostSpace;
    static constexpr std::string_view name =
        std::same_as<Factor, T> ? "cpu" : "cpu with bfloat16 products";

    struct Options {
        Index threads = 0;  // 0: one for each hardware thread
        bool warns = true;  // once a program, if it was compiled without vector instructions
    };

    Cpu() : Cpu{Options{}} {}

    /// Starts the threads. Throws ConfigError if the count is negative or absurd.
    explicit Cpu(Options options) : threads_{options.threads} {
        constexpr Index most = 4'096;
        check<ConfigError>(threads_ >= 0 && threads_ <= most, "mor::Cpu: threads is ", threads_,
                           ", expected 0 (one for each hardware thread) to ", Index{most});
        if (threads_ == 0) {
            threads_ = std::max<Index>(1, static_cast<Index>(std::thread::hardware_concurrency()));
        }
        if (threads_ > 1) {
            // More than there are callers at once, since threads that wake up late still have
            // older ones.
            for (Index i = 0; i < std::max<Index>(32, 2 * threads_); ++i) {
                loops_.push_back(std::make_unique<cpu::detail::SharedLoop>(threads_));
            }
            pool_ = std::make_unique<Eigen::ThreadPool>(static_cast<int>(threads_ - 1));
        }
        if (options.warns) {
            cpu::detail::warn_without_vector_instructions();
        }
    }

    // Models and contexts keep its address.
    Cpu(const Cpu&) = delete;
    Cpu& operator=(const Cpu&) = delete;

    [[nodiscard]] Index threads() const { return threads_; }

    /// Calls body(first, last) for consecutive parts of [0, count), which hold `grain` items or
    /// more if there are so many, on all threads at once. The parts depend only on these numbers
    /// and the number of threads. An exception of a part is rethrown here. A nested call has one
    /// part.
    template <class Body>
    void parallel_for(Index count, Index grain, Body&& body) const {
        const Index pieces = std::clamp<Index>(count / std::max<Index>(1, grain), 1, threads_);
        if (pieces == 1 || cpu::detail::SharedLoop::is_inside()) {
            if (count > 0) {
                body(Index{0}, count);
            }
            return;
        }
        cpu::detail::SharedLoop* const loop = take_loop(pieces);
        const cpu::detail::LoopCuts cuts{count, std::max<Index>(1, grain), pieces};
        if (loop == nullptr) {
            for (Index piece = 0; piece < pieces; ++piece) {
                for (Index chunk = 0; chunk < cuts.chunks(piece); ++chunk) {
                    const auto [first, last] = cuts.range(piece, chunk);
                    body(first, last);
                }
            }
            return;
        }
        loop->begin(cuts, body);
        Index scheduled = 1;
        try {
            for (; scheduled < pieces; ++scheduled) {
                // Two words, which std::function keeps without taking memory.
                pool_->Schedule([loop, piece = scheduled] {
                    loop->work(piece);
                    loop->give_back();
                });
            }
        } catch (...) {
            // No memory for another task: who is at work takes its piece, too.
            loop->give_back(pieces - scheduled);
        }
        loop->work(0);
        loop->finish();
    }

private:
    /// A loop that no thread looks at, not even one that woke up late. Null if there is none: then
    /// threads are far behind, and the caller does better alone.
    [[nodiscard]] cpu::detail::SharedLoop* take_loop(Index holders) const {
        for (const auto& loop : loops_) {
            if (loop->take(holders)) {
                return loop.get();
            }
        }
        return nullptr;
    }

    Index threads_;
    std::vector<std::unique_ptr<cpu::detail::SharedLoop>> loops_;
    std::unique_ptr<Eigen::ThreadPool> pool_;  // goes first: its tasks have loops
};

namespace cpu::detail {

template <class T>
using RowMajor =
    Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
using MatrixMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const RowMajor<T>, RowMajor<T>>,
                             0, Eigen::OuterStride<>>;

/// A matrix view as an Eigen map.
template <class T>
[[nodiscard]] MatrixMap<T> map(const View<T, 2>& view) {
    return {view.data(), view.rows(), view.columns(), Eigen::OuterStride<>{view.columns()}};
}

/// Columns [first, first + count) of `rows` rows from `row` on: one head, or one block.
template <class T>
[[nodiscard]] MatrixMap<T> block(const View<T, 2>& view, Index row, Index rows, Index first,
                                 Index count) {
    return {view.data() + row * view.columns() + first, rows, count,
            Eigen::OuterStride<>{view.columns()}};
}

template <class T>
using ArrayMap =
    Eigen::Map<std::conditional_t<std::is_const_v<T>,
                                  const Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>,
                                  Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>>>;

/// A vector view as an Eigen array.
template <class T>
[[nodiscard]] ArrayMap<T> array(const View<T, 1>& view) {
    return {view.data(), view.size()};
}

/// Rows per piece so that a piece touches at least this many elements; below it, waking a thread
/// costs more than it saves.
[[nodiscard]] constexpr Index grain_rows(Index columns) {
    constexpr Index elements = 16'384;
    return std::max<Index>(1, elements / std::max<Index>(1, columns));
}

}  // namespace cpu::detail
}  // namespace mor
