// SPDX-License-Identifier: Apache-2.0
//
// One request to an engine: what is asked for, and the handle on which answers arrive.
#pragma once

#include <mor/core/error.hpp>
#include <mor/generate/sampler.hpp>
#include <mor/recursion/depth_control.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace mor {

/// A new token, and the recursion steps that the row took which predicted it.
struct ServedToken {
    TokenId token = 0;
    Index depth = 0;
    double log_probability = 0;  // under the model, before any sampling option; if asked for

    friend bool operator==(const ServedToken&, const ServedToken&) = default;
};

/// Why an answer is complete.
enum class Finish {
    not_yet,
    length,  // max_new_tokens
    stop_token,
    context_full,    // max_positions are read, and one more token is drawn
    cancelled,       // by its handle
    engine_stopped,  // the engine was destroyed
    failed           // the handle throws the error
};

struct RequestOptions {
    Index max_new_tokens = 128;
    std::vector<TokenId> stop_tokens = {};  // the answer ends before one of these
    SamplingOptions sampling = {};
    Index max_depth = DepthControl::unlimited;  // recursion steps a token may take
    bool wants_log_probabilities = false;
    // Called with every new token, on the thread that runs the engine; the handle then gets none.
    // What it throws ends the request.
    std::function<void(const ServedToken&)> on_token = {};
    // Called once when the answer is complete, with the error if it failed: on the engine's thread,
    // or on the submitter's if the request is refused. The handle learns it afterwards. What it
    // throws is dropped.
    std::function<void(Finish, const std::exception_ptr&)> on_finish = {};
};

namespace detail {

/// What a handle and the engine share.
struct RequestState {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<ServedToken> unread;
    Finish finish = Finish::not_yet;
    std::exception_ptr error;
    std::atomic<bool> is_cancelled = false;
    std::shared_ptr<std::atomic<Index>> cancellations;  // of all requests of the engine

    void add(const ServedToken& token) {
        {
            const std::lock_guard lock{mutex};
            unread.push_back(token);
        }
        changed.notify_all();
    }
    void end(Finish how, std::exception_ptr why = {}) {
        {
            const std::lock_guard lock{mutex};
            finish = how;
            error = std::move(why);
        }
        changed.notify_all();
    }
};

}  // namespace detail

/// May be copied, moved to other threads, and outlive the engine.
class RequestHandle {
public:
    explicit RequestHandle(std::shared_ptr<detail::RequestState> state)
        : state_{std::move(state)} {}

    /// The next token, or nothing if there is none yet, or none any more.
    /// Throws the request's error once its tokens are read.
    [[nodiscard]] std::optional<ServedToken> try_next() {
        const std::lock_guard lock{state_->mutex};
        return take();
    }

    /// Waits for the next token; nothing means that the answer is complete. Another thread must
    /// run the engine. Throws like try_next.
    [[nodiscard]] std::optional<ServedToken> next() {
        std::unique_lock lock{state_->mutex};
        state_->changed.wait(lock, [this] { return is_ready(); });
        return take();
    }

    /// The same, waiting no longer than `duration`: nothing may also mean that it passed.
    template <class Representation, class Period>
    [[nodiscard]] std::optional<ServedToken> next_for(
        std::chrono::duration<Representation, Period> duration) {
        std::unique_lock lock{state_->mutex};
        state_->changed.wait_for(lock, duration, [this] { return is_ready(); });
        return take();
    }

    /// Whether and why the answer is complete; unread tokens may remain.
    [[nodiscard]] Finish finish() const {
        const std::lock_guard lock{state_->mutex};
        return state_->finish;
    }

    /// Ends the request before the engine's next step, or in the running one before it is given a
    /// token; tokens that were ready can still be read.
    void cancel() {
        if (!state_->is_cancelled.exchange(true)) {
            ++*state_->cancellations;
        }
    }

private:
    [[nodiscard]] bool is_ready() const {
        return !state_->unread.empty() || state_->finish != Finish::not_yet;
    }
    std::optional<ServedToken> take() {
        if (!state_->unread.empty()) {
            const ServedToken token = state_->unread.front();
            state_->unread.pop_front();
            return token;
        }
        if (state_->error) {
            std::rethrow_exception(state_->error);
        }
        return {};
    }

    std::shared_ptr<detail::RequestState> state_;
};

}  // namespace mor
