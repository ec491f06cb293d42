// SPDX-License-Identifier: Apache-2.0
//
// How work reaches a device: command by command, or, with graphs, in lists that are handed over as
// a whole when somebody waits for them.
#pragma once

#include <mor/backends/cuda/commands.hpp>
#include <mor/backends/cuda/staging.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace mor::cuda {

/// What came of lists of commands since the program started.
struct CommandCounts {
    Index lists = 0;     // handed over command by command
    Index recorded = 0;  // made a graph; it then was launched
    Index launches = 0;  // of graphs
};

/// Commands of all threads, in one order. While graphs are asked for, they gather until flush(). A
/// list that comes a second time is made a graph, and launched from then on; passes repeat
/// themselves, and the host then only compares.
template <CommandDevice D>
class CommandQueue {
public:
    /// Command: as Commands::add takes it.
    template <class Command>
    void add(const Command& command) {
        const std::lock_guard lock{mutex_};
        rethrow_failure();
        if (gathers()) {
            commands_.add(command);
        } else {
            command();
        }
    }

    /// `source` may change when this returns.
    void upload(void* destination, const void* source, std::size_t bytes) {
        const std::lock_guard lock{mutex_};
        rethrow_failure();
        if (gathers()) {
            commands_.template add_upload<&D::upload>(destination, source, bytes);
            return;
        }
        D::upload(destination, staging_.place(source, bytes), bytes);
    }

    /// Hands over what has gathered. What fails is not tried again.
    void flush() {
        const std::lock_guard lock{mutex_};
        rethrow_failure();
        hand_over();
    }
    /// The same; if it fails, whoever comes next gets the exception.
    void flush_or_keep_failure() noexcept {
        const std::lock_guard lock{mutex_};
        hand_over_or_keep_failure();
    }

    /// Graphs are made while more began than ended to ask for them.
    void begin_graphs() { ++users_; }
    void end_graphs() noexcept {
        const std::lock_guard lock{mutex_};
        hand_over_or_keep_failure();
        --users_;
    }
    /// Hands over and forgets all that it knows: something that commands point to ends.
    void forget() noexcept {
        const std::lock_guard lock{mutex_};
        hand_over_or_keep_failure();
        graphs_.clear();
        remembered_ = {};
    }

    [[nodiscard]] CommandCounts counts() const {
        const std::lock_guard lock{mutex_};
        return counts_;
    }

private:
    static constexpr std::size_t most_graphs = 64;
    static constexpr std::size_t num_remembered = 256;  // lists seen once
    static constexpr std::size_t most_unrecordable = 64;

    struct Recorded {
        Recorded(const Commands& list, std::uint64_t its_hash)
            : commands{list},
              hash{its_hash},
              staged{staging.fill(list.contents().data(), list.contents().size())},
              graph{[this] { commands.run(staged); }} {}

        Recorded(const Recorded&) = delete;
        Recorded& operator=(const Recorded&) = delete;
        ~Recorded() { staging.wait_for_readers(); }  // a graph that runs is not destroyed

        Commands commands;
        std::uint64_t hash;
        Index last_launch = 0;
        detail::Staging<D> staging;
        const std::byte* staged;  // memory is taken before the graph records, which forbids it
        typename D::Graph graph;
    };

    [[nodiscard]] bool gathers() const { return users_ > 0; }

    void rethrow_failure() {
        if (failure_) [[unlikely]] {
            std::rethrow_exception(std::exchange(failure_, nullptr));
        }
    }

    void hand_over_or_keep_failure() noexcept {
        try {
            hand_over();
        } catch (...) {
            failure_ = std::current_exception();
        }
    }

    void hand_over() {
        if (commands_.empty()) {
            return;
        }
        try {
            const std::uint64_t hash = commands_.hash();
            if (Recorded* const recorded = graph_of(hash); recorded != nullptr) {
                launch(*recorded);
            } else {
                run_once(hash);
            }
        } catch (...) {
            commands_.clear();
            throw;
        }
        commands_.clear();
    }

    void launch(Recorded& recorded) {
        const std::vector<std::byte>& contents = commands_.contents();
        recorded.staging.fill(contents.data(), contents.size());
        recorded.graph.launch();
        recorded.staging.was_handed_over();
        recorded.last_launch = ++counts_.launches;
    }

    void run_once(std::uint64_t hash) {
        const std::vector<std::byte>& contents = commands_.contents();
        commands_.run(staging_.place(contents.data(), contents.size()));
        remembered_[static_cast<std::size_t>(counts_.lists++) % num_remembered] = hash;
    }

    void remember_unrecordable(std::uint64_t hash) {
        if (unrecordable_.size() == most_unrecordable) {
            unrecordable_.clear();
        }
        unrecordable_.push_back(hash);
    }

    /// The graph of the commands; it is made if they come a second time.
    [[nodiscard]] Recorded* graph_of(std::uint64_t hash) {
        const auto found = std::find_if(graphs_.begin(), graphs_.end(), [&](const auto& recorded) {
            return recorded->hash == hash && recorded->commands == commands_;
        });
        if (found != graphs_.end()) {
            return found->get();
        }
        const auto is_in = [hash](const auto& list) {
            return std::find(list.begin(), list.end(), hash) != list.end();
        };
        if (!is_in(remembered_) || is_in(unrecordable_)) {
            return nullptr;
        }
        if (graphs_.size() == most_graphs) {
            graphs_.erase(std::min_element(
                graphs_.begin(), graphs_.end(),
                [](const auto& a, const auto& b) { return a->last_launch < b->last_launch; }));
        }
        try {
            graphs_.push_back(std::make_unique<Recorded>(commands_, hash));
        } catch (...) {  // what cannot be recorded can still be handed over command by command
            remember_unrecordable(hash);
            return nullptr;
        }
        ++counts_.recorded;
        return graphs_.back().get();
    }

    mutable std::mutex mutex_;
    std::atomic<int> users_ = 0;
    Commands commands_;
    std::exception_ptr failure_;
    std::vector<std::unique_ptr<Recorded>> graphs_;
    std::array<std::uint64_t, num_remembered> remembered_{};  // hashes
    std::vector<std::uint64_t> unrecordable_;                 // hashes too
    detail::StagingRing<D> staging_;
    CommandCounts counts_;
};

}  // namespace mor::cuda
