// SPDX-License-Identifier: Apache-2.0
//
// Where requests arrive, from any thread, until the engine's thread fetches them.
#pragma once

#include <mor/serve/sequence.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <utility>

namespace mor::detail {

class Inbox {
public:
    /// Returns false, and drops the sequence, if the inbox is closed.
    [[nodiscard]] bool add(std::unique_ptr<Sequence> sequence) {
        Queue one;
        one.push_back(std::move(sequence));
        {
            const std::lock_guard lock{mutex_};
            if (is_closed_) {
                return false;
            }
            one.front()->number = next_number_++;
            arrived_.splice(arrived_.end(), one);
        }
        changed_.notify_one();
        return true;
    }

    void close() {
        const std::lock_guard lock{mutex_};
        is_closed_ = true;
    }

    /// Appends what has arrived to a queue. Returns how many.
    Index fetch(Queue& queue) {
        const std::lock_guard lock{mutex_};
        const Index count = std::ssize(arrived_);
        queue.splice(queue.end(), arrived_);
        return count;
    }

    [[nodiscard]] bool has_arrived() {
        const std::lock_guard lock{mutex_};
        return !arrived_.empty();
    }

    void wait(const std::stop_token& stop) {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, stop, [this] { return !arrived_.empty(); });
    }

    /// Counts the cancellations of requests; their handles may outlive the engine.
    [[nodiscard]] const std::shared_ptr<std::atomic<Index>>& cancellations() const {
        return cancellations_;
    }
    /// Whether a request was cancelled since the last call.
    [[nodiscard]] bool heard_cancellation() {
        const Index now = cancellations_->load();
        return std::exchange(seen_cancellations_, now) != now;
    }

private:
    std::mutex mutex_;
    std::condition_variable_any changed_;
    Queue arrived_;
    bool is_closed_ = false;
    Index next_number_ = 0;
    std::shared_ptr<std::atomic<Index>> cancellations_ = std::make_shared<std::atomic<Index>>(0);
    Index seen_cancellations_ = 0;
};

}  // namespace mor::detail
