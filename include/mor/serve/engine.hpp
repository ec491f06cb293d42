// SPDX-License-Identifier: Apache-2.0
//
// Engine: serves many requests with one model, continuously batched, from paged key-value storage.
#pragma once

#include <mor/serve/batch.hpp>
#include <mor/serve/drawn_tokens.hpp>
#include <mor/serve/engine_options.hpp>
#include <mor/serve/inbox.hpp>
#include <mor/serve/request.hpp>
#include <mor/serve/scheduling.hpp>
#include <mor/serve/sequence.hpp>
#include <mor/serve/sequence_memory.hpp>
#include <mor/serve/served_rows.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

namespace mor {

/// `submit`, `counts` and the handles may be used from any thread, also while another one runs
/// `step`, `run` or `serve`; all else belongs to that one. Callbacks may submit and cancel.
///
/// A request's tokens depend on its prompt and options alone, whatever else is served, in engines
/// of one block_size: to the bit if hidden_size, intermediate_size and head_dim are multiples of 16
/// (docs/design/0006).
template <class A, Backend B, class Scheduling = DepthWise>
    requires(detail::explain_scheduling<Scheduling>() && detail::explain_servable<A, B>()) &&
            ServableArchitecture<A, B> && SchedulingPolicy<Scheduling>
class Engine {
    using Sequence = detail::Sequence;
    using Queue = detail::Queue;
    using Clock = std::chrono::steady_clock;

public:
    /// The model must outlive the engine. Throws ConfigError if an option is out of range, the
    /// memory too small for one block a layer, or the sharing has layers between recursion steps.
    explicit Engine(const Model<A, B>& model, const EngineOptions& options = {})
        : model_{model},
          options_{detail::checked(options)},
          context_{model.backend()},
          cache_{model.key_uses(), model.config().num_kv_heads * model.config().head_dim,
                 options_.cache_bytes, options_.block_size},
          memory_{cache_, options_, model.config().max_positions, num_places()},
          rows_{model, context_, cache_, num_places()} {
        check<ConfigError>(cache_.most_bytes(1) <= options_.cache_bytes,
                           "mor::Engine: cache_bytes is ", options_.cache_bytes,
                           ", too little for one block in each layer, ", cache_.most_bytes(1));
    }

    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() {
        inbox_.close();
        inbox_.fetch(queues_.waiting);
        queues_.for_each(
            [this](Queue& queue, Queue::iterator at) { end(queue, at, Finish::engine_stopped); });
    }

    /// Never throws for what is wrong with a request: the handle does, with ConfigError or
    /// ShapeError.
    RequestHandle submit(std::span<const TokenId> prompt, const RequestOptions& options = {}) {
        auto state = std::make_shared<detail::RequestState>();
        state->cancellations = inbox_.cancellations();
        try {
            auto sequence = std::make_unique<Sequence>(state, prompt, options);
            validate(*sequence);
            if (!inbox_.add(std::move(sequence))) {
                tell(*state, options, Finish::engine_stopped, {});
            }
        } catch (const Error&) {
            tell(*state, options, Finish::failed, std::current_exception());
        }
        return RequestHandle{std::move(state)};
    }

    /// One call of the model, or one out of the recursion and one into it. Returns false if there
    /// was nothing to do, and nothing is left.
    bool step() {
        // In this order: what was cancelled before had arrived before.
        const bool heard_cancellation = inbox_.heard_cancellation();
        counts_.requests += inbox_.fetch(queues_.waiting);
        if (heard_cancellation) {
            end_cancelled();
        }
        EngineLoad load = detail::load_of(queues_, options_);
        admit(load);
        reports_.clear();
        if (load.running > 0) {
            try {
                run_next(Scheduling::next(load));
            } catch (...) {
                if (queues_.taken.empty()) {
                    throw;  // no request's error
                }
                while (!queues_.taken.empty()) {
                    end(queues_.taken, queues_.taken.begin(), Finish::failed,
                        std::current_exception());
                }
            }
        }
        publish_counts();
        for (const EngineCall& call : reports_) {
            options_.on_call(call);
        }
        // Callbacks may have submitted another.
        return load.running > 0 || inbox_.has_arrived();
    }

    /// Until no request is left.
    void run() {
        while (step()) {
        }
    }

    /// Until asked to stop; sleeps while there is nothing to do. Requests that are not finished
    /// then stay, and can be run later.
    void serve(const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            if (!step()) {
                inbox_.wait(stop);
            }
        }
    }

    /// As they were after the last step.
    [[nodiscard]] EngineCounts counts() const {
        const std::lock_guard lock{published_mutex_};
        return published_;
    }
    /// Operations of products and attention so far.
    [[nodiscard]] double flops() const { return context_.flops(); }
    [[nodiscard]] Index cache_bytes_in_use() const { return cache_.pool().bytes_in_use(); }
    /// Forgets the kept prefixes. With no request running, no memory is in use then.
    void forget_prefixes() {
        memory_.forget_prefixes();
        publish_counts();
    }

private:
    /// Rows rest in these between calls: at most max_batch of a call, and those that wait.
    [[nodiscard]] Index num_places() const {
        return std::min(options_.max_sequences, cache_.pool().num_blocks()) +
               2 * options_.max_batch;
    }

    void validate(const Sequence& sequence) const {
        detail::check_request(sequence, model_.config());
        const Index longest = sequence.most_processed(model_.config().max_positions);
        check<ConfigError>(cache_.most_bytes(longest) <= options_.cache_bytes,
                           "mor::Engine: a sequence of ", longest, " tokens can need ",
                           cache_.most_bytes(longest),
                           " bytes of keys and values, but cache_bytes is ", options_.cache_bytes);
    }

    // --- who is served ---------------------------------------------------------------------------

    void end_cancelled() {
        queues_.for_each([this](Queue& queue, Queue::iterator at) {
            if ((*at)->state->is_cancelled) {
                end(queue, at, Finish::cancelled);
            }
        });
    }

    /// Requests join in the order of their arrival, while there is room.
    void admit(EngineLoad& load) {
        while (!queues_.waiting.empty() && load.running < options_.max_sequences &&
               Scheduling::admits(load)) {
            Sequence& sequence = *queues_.waiting.front();
            if (!memory_.has_room(sequence, queues_)) {
                return;
            }
            try {
                counts_.reused_tokens += memory_.begin(context_, sequence);
            } catch (...) {
                end(queues_.waiting, queues_.waiting.begin(), Finish::failed,
                    std::current_exception());
                continue;
            }
            queues_.entering.splice(queues_.entering.end(), queues_.waiting,
                                    queues_.waiting.begin());
            ++load.running;
            load.entering += detail::next_rows(sequence, options_);
        }
    }

    // --- calls -----------------------------------------------------------------------------------

    void run_next(NextCall next) {
        if (next == NextCall::boundary || queues_.stepping.empty()) {
            const bool left = leave();
            if (enter() || left) {
                return;
            }
        }
        // Where memory for new rows is short, those on their way come first.
        if (!queues_.stepping.empty()) {
            run_shared_block();
        }
    }

    /// Rows that waited longest, of any step or, where they cannot share a call, of one: the one
    /// that waited longest if the policy mixes depths, else the lowest, so that all rows of a token
    /// go together.
    void run_shared_block() {
        const bool mixes = Scheduling::mixes_depths && rows_.mixes_steps();
        const Index depth = Scheduling::mixes_depths ? queues_.stepping.front()->depth()
                                                     : detail::lowest_depth(queues_.stepping);
        batch_.clear();
        const bool is_cut =
            detail::take_stepping(queues_, mixes, depth, options_.max_batch, batch_);
        steps_ = detail::collect<Index>(batch_, [](const ServedRow& row) { return row.depth; });
        call(EnginePart::shared_block, std::ssize(batch_), [&] { rows_.step(batch_); });
        if (is_cut) {
            queues_.stepping.splice(queues_.stepping.begin(), queues_.taken,
                                    std::prev(queues_.taken.end()));
        }
        queues_.sort_taken();
    }

    bool enter() {
        batch_.clear();
        while (!queues_.entering.empty()) {
            Sequence& sequence = *queues_.entering.front();
            const Index count =
                std::min({detail::next_rows(sequence, options_),
                          options_.max_batch - std::ssize(batch_), memory_.num_free_places()});
            if (count == 0) {
                break;
            }
            if (memory_.reserve(sequence, count, queues_)) {
                queues_.take(queues_.entering);
                memory_.make_rows(sequence, count);
                append_rows(sequence);
            } else if (!batch_.empty()) {
                break;  // those taken may be younger, and will soon give memory back
            } else {
                memory_.preempt(queues_, queues_.entering, queues_.entering.begin());
            }
        }
        if (batch_.empty()) {
            return false;
        }
        call(EnginePart::enter, std::ssize(batch_), [&] { rows_.enter(batch_); });
        queues_.sort_taken();
        return true;
    }

    bool leave() {
        batch_.clear();
        while (!queues_.leaving.empty() &&
               std::ssize(batch_) + std::ssize(queues_.leaving.front()->rows) <=
                   options_.max_batch) {
            append_rows(*queues_.leaving.front());
            queues_.take(queues_.leaving);
        }
        if (batch_.empty()) {
            return false;
        }
        std::vector<Sequence*> drawing;  // whose next tokens are to be drawn
        std::vector<ServedRow*> last;    // of their rows
        for (const auto& sequence : queues_.taken) {
            if (std::ssize(sequence->rows) == sequence->num_unprocessed()) {
                drawing.push_back(sequence.get());
                last.push_back(&sequence->rows.back());
            }
        }
        std::span<const typename B::Element> logits;
        call(EnginePart::leave, std::ssize(batch_), [&] {
            rows_.leave(batch_);
            if (!last.empty()) {
                logits = rows_.logits(last);
            }
        });
        if (!drawing.empty()) {
            call(EnginePart::draw, std::ssize(drawing),
                 [&] { detail::draw_tokens<B>(context_.backend(), drawing, logits, drawn_); });
        }
        auto drawn = drawn_.begin();
        while (!queues_.taken.empty()) {
            Sequence& sequence = *queues_.taken.front();
            const Index depth = sequence.rows.back().depth;
            const bool draws = std::ssize(sequence.rows) == sequence.num_unprocessed();
            sequence.processed += std::ssize(sequence.rows);
            memory_.end_rows(sequence);
            if (draws && add_token(queues_.taken, *drawn++, depth)) {
                continue;
            }
            queues_.entering.splice(queues_.entering.end(), queues_.taken, queues_.taken.begin());
        }
        return true;
    }

    void append_rows(Sequence& sequence) {
        for (ServedRow& row : sequence.rows) {
            batch_.push_back(&row);
        }
    }

    /// Gives the queue's first sequence its next token. Returns true if it ended there.
    bool add_token(Queue& queue, const detail::DrawnToken& drawn, Index depth) {
        Sequence& sequence = *queue.front();
        const RequestOptions& options = sequence.options;
        const auto ends = [&](Finish how) {
            memory_.keep(sequence);
            end(queue, queue.begin(), how);
            return true;
        };
        if (sequence.state->is_cancelled) {  // by a callback of this step
            return ends(Finish::cancelled);
        }
        if (sequence.processed == sequence.prompt_length) {
            memory_.keep(sequence);
        }
        try {
            if (drawn.error) {
                std::rethrow_exception(drawn.error);
            }
            if (std::find(options.stop_tokens.begin(), options.stop_tokens.end(), drawn.token) !=
                options.stop_tokens.end()) {
                return ends(Finish::stop_token);
            }
            sequence.tokens.push_back(drawn.token);
            ++counts_.tokens;
            const ServedToken served{
                .token = drawn.token, .depth = depth, .log_probability = drawn.log_probability};
            if (options.on_token) {
                options.on_token(served);
            } else {
                sequence.state->add(served);
            }
        } catch (...) {
            end(queue, queue.begin(), Finish::failed, std::current_exception());
            return true;
        }
        if (sequence.num_new() == options.max_new_tokens) {
            return ends(Finish::length);
        }
        if (std::ssize(sequence.tokens) > model_.config().max_positions) {
            return ends(Finish::context_full);
        }
        return false;
    }

    /// Runs a part for `rows` rows of the sequences taken.
    template <class Function>
    void call(EnginePart part, Index rows, Function&& function) {
        const auto start = Clock::now();
        function();
        if (options_.on_call) {
            const std::chrono::duration<double> seconds = Clock::now() - start;
            EngineCall report{.part = part,
                              .rows = rows,
                              .seconds = seconds.count(),
                              .cache_bytes = cache_bytes_in_use()};
            if (part == EnginePart::shared_block) {
                report.steps = steps_;
            }
            reports_.push_back(report);
        }
    }

    void end(Queue& queue, Queue::iterator at, Finish how, const std::exception_ptr& why = {}) {
        if ((*at)->rows.empty()) {
            counts_.ended_tokens += (*at)->processed;
            counts_.ended_bytes += cache_.entry_bytes((*at)->tables);
        }
        memory_.give_back(**at);
        Queue ended;
        ended.splice(ended.begin(), queue, at);
        tell(*ended.front()->state, ended.front()->options, how, why);
    }
    static void tell(detail::RequestState& state, const RequestOptions& options, Finish how,
                     const std::exception_ptr& why) noexcept {
        // Before the handle knows: who waits for that may then destroy what the callback uses.
        if (options.on_finish) {
            try {
                options.on_finish(how, why);
            } catch (...) {  // NOLINT(bugprone-empty-catch): there is nobody left to tell
            }
        }
        state.end(how, why);
    }

    void publish_counts() {
        counts_.preemptions = memory_.num_preemptions();
        counts_.cache_bytes = cache_bytes_in_use();
        counts_.running = queues_.num_running();
        counts_.waiting = std::ssize(queues_.waiting);
        const std::lock_guard lock{published_mutex_};
        published_ = counts_;
    }

    const Model<A, B>& model_;
    EngineOptions options_;
    Context<B> context_;
    PagedKeyValueCache<B> cache_;
    detail::SequenceMemory<B> memory_;
    ServedRows<A, B> rows_;
    detail::Inbox inbox_;
    detail::Queues queues_;
    EngineCounts counts_;
    std::vector<ServedRow*> batch_;  // of the running call
    std::vector<detail::DrawnToken> drawn_;
    std::vector<Index> steps_;         // [batch_] of the shared block
    std::vector<EngineCall> reports_;  // of the running step

    mutable std::mutex published_mutex_;
    EngineCounts published_;
};

}  // namespace mor
