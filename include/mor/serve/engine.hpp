// SPDX-License-Identifier: Apache-2.0
//
// Engine: serves many requests with one model, continuously batched, from paged key-value storage.
#pragma once

#include <mor/serve/prefixes.hpp>
#include <mor/serve/request.hpp>
#include <mor/serve/scheduling.hpp>
#include <mor/serve/served_rows.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

namespace mor {

/// One call of a part of the model, for watching an engine at work.
struct EngineCall {
    NextCall part = NextCall::shared_block;
    Index rows = 0;
    Index max_batch = 0;
    std::span<const Index> steps = {};  // [rows] of the shared block: which step each took
    double seconds = 0;                 // of the model alone
    Index cache_bytes = 0;              // in use afterwards
};

struct EngineOptions {
    Index max_batch = 32;          // rows of one call
    Index max_sequences = 0;       // admitted at once; 0: 2 * max_batch
    Index prefill_chunk = 32;      // rows of one sequence in a call, at most max_batch
    Index cache_bytes = 1L << 28;  // of keys and values
    Index block_size = 16;         // entries of a cache block, at most 64
    Index max_prefixes = 8;        // prompts whose keys are kept for requests that begin alike
    std::function<void(const EngineCall&)> on_call = {};
};

struct EngineCounts {
    Index requests = 0;
    Index tokens = 0;         // produced
    Index preemptions = 0;    // sequences that gave up their memory and began again
    Index reused_tokens = 0;  // prompt tokens whose keys came from an earlier prompt
};

/// `submit` may be called from any thread, also while another one runs `step` or `serve`. A
/// request's tokens depend on its prompt and options alone, whatever else is served: to the bit if
/// hidden_size, intermediate_size and head_dim are multiples of 16 (docs/design/0006).
template <class A, Backend B, class Scheduling = DepthWise>
    requires ServableArchitecture<A, B> && SchedulingPolicy<Scheduling>
class Engine {
public:
    /// The model must outlive the engine. Throws ConfigError if an option is out of range or the
    /// memory too small for one block a layer.
    explicit Engine(const Model<A, B>& model, const EngineOptions& options = {})
        : model_{model},
          options_{checked(options)},
          context_{model.backend()},
          cache_{key_uses(model), model.config().num_kv_heads * model.config().head_dim,
                 options_.cache_bytes, options_.block_size},
          num_places_{options_.max_sequences + 2 * options_.max_batch},
          rows_{model, context_, cache_, num_places_},
          prefixes_{cache_, options_.max_prefixes} {
        check<ConfigError>(cache_.most_blocks(1) <= cache_.pool().num_blocks(),
                           "mor::Engine: cache_bytes is ", options_.cache_bytes,
                           ", too little for one block in each layer, ",
                           cache_.most_blocks(1) * block_bytes());
        for (Index place = 0; place < num_places_; ++place) {
            free_places_.push_back(place);
        }
    }

    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    ~Engine() { stop_all(); }

    /// Never throws for what is wrong with a request: the handle does, with ConfigError or
    /// ShapeError.
    RequestHandle submit(std::span<const TokenId> prompt, const RequestOptions& options = {}) {
        auto state = std::make_shared<detail::RequestState>();
        try {
            auto sequence = std::make_unique<Sequence>(state, prompt, options);
            validate(*sequence);
            {
                const std::lock_guard lock{inbox_mutex_};
                sequence->number = next_number_++;
                inbox_.push_back(std::move(sequence));
            }
            arrived_.notify_one();
        } catch (const Error&) {
            state->end(Finish::failed, std::current_exception());
        }
        return RequestHandle{std::move(state)};
    }

    /// One call of the model. Returns false if there was nothing to do.
    bool step() {
        take_inbox();
        drop_cancelled();
        admit();
        const EngineLoad load = load_now();
        if (load.running == 0) {
            return false;
        }
        const bool around = Scheduling::next(load) == NextCall::boundary;
        // Where memory for new rows is short, those on their way come first.
        if (!(around && run_boundary()) && !stepping_.empty()) {
            run_shared_block();
        }
        return true;
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
                std::unique_lock lock{inbox_mutex_};
                arrived_.wait(lock, stop, [this] { return !inbox_.empty(); });
            }
        }
    }

    [[nodiscard]] const EngineCounts& counts() const { return counts_; }
    /// Operations of products and attention so far.
    [[nodiscard]] double flops() const { return context_.flops(); }
    [[nodiscard]] Index cache_bytes_in_use() const { return cache_.pool().bytes_in_use(); }
    /// Forgets the kept prefixes. With no request running, no memory is in use then.
    void forget_prefixes() { prefixes_.clear(); }

private:
    struct Sequence {
        Sequence(std::shared_ptr<detail::RequestState> shared, std::span<const TokenId> prompt,
                 RequestOptions request)
            : state{std::move(shared)},
              options{std::move(request)},
              sampler{options.sampling},
              tokens{prompt.begin(), prompt.end()},
              prompt_length{std::ssize(prompt)} {}

        std::shared_ptr<detail::RequestState> state;
        RequestOptions options;
        Sampler sampler;
        std::vector<TokenId> tokens;  // prompt and answer
        Index prompt_length;
        Index number = 0;     // of arrival
        Index processed = 0;  // tokens whose keys are stored
        SequenceTables tables = {};
        std::vector<ServedRow> rows = {};  // in flight

        [[nodiscard]] Index num_new() const { return std::ssize(tokens) - prompt_length; }
        [[nodiscard]] bool goes_on() const {
            return std::any_of(rows.begin(), rows.end(),
                               [](const ServedRow& row) { return row.goes_on; });
        }
        [[nodiscard]] Index rows_going_on() const {
            return std::count_if(rows.begin(), rows.end(),
                                 [](const ServedRow& row) { return row.goes_on; });
        }
    };
    using Queue = std::list<std::unique_ptr<Sequence>>;
    using Clock = std::chrono::steady_clock;

    static EngineOptions checked(EngineOptions options) {
        check<ConfigError>(options.max_batch >= 1, "mor::Engine: max_batch is ", options.max_batch,
                           ", expected at least 1");
        check<ConfigError>(options.prefill_chunk >= 1, "mor::Engine: prefill_chunk is ",
                           options.prefill_chunk, ", expected at least 1");
        check<ConfigError>(options.max_sequences >= 0, "mor::Engine: max_sequences is ",
                           options.max_sequences, ", expected 0 or more");
        check<ConfigError>(options.block_size >= 1 && options.block_size <= 64,
                           "mor::Engine: block_size is ", options.block_size, ", expected 1 to 64");
        check<ConfigError>(options.cache_bytes > 0, "mor::Engine: cache_bytes is ",
                           options.cache_bytes, ", expected more than 0");
        check<ConfigError>(options.max_prefixes >= 0, "mor::Engine: max_prefixes is ",
                           options.max_prefixes, ", expected 0 or more");
        options.prefill_chunk = std::min(options.prefill_chunk, options.max_batch);
        if (options.max_sequences == 0) {
            options.max_sequences = 2 * options.max_batch;
        }
        return options;
    }
    static std::vector<detail::KeyUse> key_uses(const Model<A, B>& model) {
        std::vector<detail::KeyUse> uses;
        for (Index layer = 0; layer < model.layout().num_unrolled(); ++layer) {
            uses.push_back(detail::KeyUse::of(model.cache_policy(), model.layout(), layer));
        }
        return uses;
    }
    [[nodiscard]] Index block_bytes() const {
        return BlockPool<B>::block_bytes(options_.block_size,
                                         model_.config().num_kv_heads * model_.config().head_dim);
    }

    void validate(const Sequence& sequence) const {
        const ModelConfig& config = model_.config();
        const RequestOptions& options = sequence.options;
        check<ConfigError>(!sequence.tokens.empty(), "mor::Engine: the prompt is empty");
        check<ShapeError>(sequence.prompt_length <= config.max_positions,
                          "mor::Engine: the prompt has ", sequence.prompt_length,
                          " tokens, but max_positions is ", config.max_positions);
        for (const TokenId token : sequence.tokens) {
            check<ShapeError>(token >= 0 && token < config.vocab_size, "mor::Engine: token ", token,
                              " is outside the vocabulary of ", config.vocab_size);
        }
        check<ConfigError>(options.max_new_tokens >= 1, "mor::Engine: max_new_tokens is ",
                           options.max_new_tokens, ", expected at least 1");
        check<ConfigError>(options.max_depth >= 1, "mor::Engine: max_depth is ", options.max_depth,
                           ", expected at least 1");
        const Index longest =
            std::min(sequence.prompt_length + options.max_new_tokens, config.max_positions);
        check<ConfigError>(cache_.most_blocks(longest) <= cache_.pool().num_blocks(),
                           "mor::Engine: a sequence of ", longest, " tokens can need ",
                           cache_.most_blocks(longest) * block_bytes(),
                           " bytes of keys and values, but cache_bytes is ", options_.cache_bytes);
    }

    // --- who is served ---------------------------------------------------------------------------

    void take_inbox() {
        const std::lock_guard lock{inbox_mutex_};
        counts_.requests += std::ssize(inbox_);
        for (auto& sequence : inbox_) {
            waiting_.push_back(std::move(sequence));
        }
        inbox_.clear();
    }

    void drop_cancelled() {
        for (Queue* queue : {&waiting_, &entering_, &stepping_, &leaving_}) {
            for (auto at = queue->begin(); at != queue->end();) {
                const auto next = std::next(at);
                if ((*at)->state->wants_to_stop()) {
                    end(*queue, at, Finish::cancelled);
                }
                at = next;
            }
        }
    }

    /// Requests join in the order of their arrival, while their prompts would fit.
    void admit() {
        while (!waiting_.empty() && num_running() < options_.max_sequences &&
               Scheduling::admits(load_now())) {
            Sequence& sequence = *waiting_.front();
            if (num_running() > 0 &&
                cache_.most_blocks(std::ssize(sequence.tokens)) > cache_.pool().num_free()) {
                return;
            }
            sequence.tables = cache_.make_tables();
            sequence.processed = prefixes_.reuse(context_, sequence.tokens, sequence.tables);
            counts_.reused_tokens += sequence.processed;
            entering_.splice(entering_.end(), waiting_, waiting_.begin());
        }
    }
    [[nodiscard]] Index num_running() const {
        return static_cast<Index>(entering_.size() + stepping_.size() + leaving_.size());
    }

    [[nodiscard]] EngineLoad load_now() const {
        EngineLoad load{.running = num_running(), .max_batch = options_.max_batch};
        for (const auto& sequence : entering_) {
            load.entering += chunk_of(*sequence);
            load.started += sequence->num_new() > 0 || sequence->processed > 0 ? 1 : 0;
        }
        for (const auto& sequence : stepping_) {
            load.stepping += sequence->rows_going_on();
        }
        for (const auto& sequence : leaving_) {
            load.leaving += std::ssize(sequence->rows);
        }
        load.started += static_cast<Index>(stepping_.size() + leaving_.size());
        return load;
    }
    [[nodiscard]] Index chunk_of(const Sequence& sequence) const {
        return std::min(options_.prefill_chunk, std::ssize(sequence.tokens) - sequence.processed);
    }

    // --- calls -----------------------------------------------------------------------------------

    void run_shared_block() {
        const bool mixes = Scheduling::mixes_depths && rows_.mixes_steps();
        Index lowest = 0;
        if (!mixes) {
            lowest = depth_of(**std::min_element(
                stepping_.begin(), stepping_.end(),
                [](const auto& a, const auto& b) { return depth_of(*a) < depth_of(*b); }));
        }
        std::vector<ServedRow*> batch;
        Queue taken;
        for (auto at = stepping_.begin(); at != stepping_.end();) {
            const auto next = std::next(at);
            Sequence& sequence = **at;
            const bool fits = std::ssize(batch) + sequence.rows_going_on() <= options_.max_batch;
            if (fits && (mixes || depth_of(sequence) == lowest)) {
                for (ServedRow& row : sequence.rows) {
                    if (row.goes_on) {
                        batch.push_back(&row);
                    }
                }
                taken.splice(taken.end(), stepping_, at);
            } else if (!fits && mixes) {
                break;
            }
            at = next;
        }
        std::vector<Index> steps(batch.size());
        std::transform(batch.begin(), batch.end(), steps.begin(),
                       [](const ServedRow* row) { return row->depth; });
        call(NextCall::shared_block, std::ssize(batch), steps, taken, [&] { rows_.step(batch); });
        sort_out(taken);
    }
    static Index depth_of(const Sequence& sequence) {
        return std::find_if(sequence.rows.begin(), sequence.rows.end(),
                            [](const ServedRow& row) { return row.goes_on; })
            ->depth;
    }

    /// Returns false if no row could leave or enter.
    bool run_boundary() {
        const bool left = leave();
        return enter() || left;
    }

    bool leave() {
        std::vector<ServedRow*> batch;
        std::vector<ServedRow*> last;  // of those sequences whose next token is to be drawn
        Queue taken = take_leaving(batch);
        if (batch.empty()) {
            return false;
        }
        std::vector<typename B::Element> logits;
        call(NextCall::boundary, std::ssize(batch), {}, taken, [&] {
            rows_.leave(batch);
            for (const auto& sequence : taken) {
                sequence->processed += std::ssize(sequence->rows);
                if (sequence->processed == std::ssize(sequence->tokens)) {
                    last.push_back(&sequence->rows.back());
                }
            }
            if (!last.empty()) {
                logits = rows_.logits(last);
            }
        });
        const auto vocabulary = static_cast<std::size_t>(model_.config().vocab_size);
        std::size_t drawn = 0;
        for (auto at = taken.begin(); at != taken.end();) {
            const auto next = std::next(at);
            Sequence& sequence = **at;
            const bool draws = drawn < last.size() && &sequence.rows.back() == last[drawn];
            const Index depth = sequence.rows.back().depth;
            give_back_places(sequence);
            cache_.trim(sequence.tables);
            if (draws) {
                const std::span own{logits.data() + vocabulary * drawn++, vocabulary};
                draw(taken, at, own, depth);
            }
            at = next;
        }
        entering_.splice(entering_.end(), taken);
        return true;
    }

    /// Draws the next token of a sequence, and ends it if that was the last.
    void draw(Queue& queue, typename Queue::iterator at,
              std::span<const typename B::Element> logits, Index depth) {
        Sequence& sequence = **at;
        const RequestOptions& options = sequence.options;
        if (sequence.processed == sequence.prompt_length) {
            prefixes_.keep(sequence.tokens, sequence.tables);
        }
        try {
            const TokenId token = sequence.sampler.sample(logits, sequence.tokens);
            if (std::find(options.stop_tokens.begin(), options.stop_tokens.end(), token) !=
                options.stop_tokens.end()) {
                end(queue, at, Finish::stop_token);
                return;
            }
            sequence.tokens.push_back(token);
            ++counts_.tokens;
            const ServedToken served{token, depth};
            sequence.state->add(served);
            if (options.on_token) {
                options.on_token(served);
            }
        } catch (...) {
            end(queue, at, Finish::failed, std::current_exception());
            return;
        }
        if (sequence.num_new() == options.max_new_tokens) {
            end(queue, at, Finish::length);
        } else if (std::ssize(sequence.tokens) > model_.config().max_positions) {
            end(queue, at, Finish::context_full);
        }
    }

    bool enter() {
        std::vector<ServedRow*> batch;
        Queue taken;
        while (!entering_.empty()) {
            Sequence& sequence = *entering_.front();
            const Index count = chunk_of(sequence);
            if (std::ssize(batch) + count > options_.max_batch ||
                count > std::ssize(free_places_)) {
                break;
            }
            if (reserve(sequence, count)) {
                make_rows(sequence, count);
                append_rows(sequence, batch);
                taken.splice(taken.end(), entering_, entering_.begin());
            } else {
                preempt(entering_, entering_.begin());  // older ones have the memory
            }
        }
        if (batch.empty()) {
            return false;
        }
        call(NextCall::boundary, std::ssize(batch), {}, taken, [&] { rows_.enter(batch); });
        sort_out(taken);
        return true;
    }

    /// Moves sequences out of the leaving queue while their rows fit into a call.
    Queue take_leaving(std::vector<ServedRow*>& batch) {
        Queue taken;
        while (!leaving_.empty() &&
               std::ssize(batch) + std::ssize(leaving_.front()->rows) <= options_.max_batch) {
            append_rows(*leaving_.front(), batch);
            taken.splice(taken.end(), leaving_, leaving_.begin());
        }
        return taken;
    }
    static void append_rows(Sequence& sequence, std::vector<ServedRow*>& batch) {
        for (ServedRow& row : sequence.rows) {
            batch.push_back(&row);
        }
    }

    /// After a call: rows with steps to take wait for them, others to leave.
    void sort_out(Queue& taken) {
        while (!taken.empty()) {
            Queue& queue = taken.front()->goes_on() ? stepping_ : leaving_;
            queue.splice(queue.end(), taken, taken.begin());
        }
    }

    /// Runs the model. Its errors end the requests of the call, and no others.
    template <class Function>
    void call(NextCall part, Index rows, std::span<const Index> steps, Queue& taken,
              Function&& function) {
        const auto start = Clock::now();
        try {
            function();
        } catch (...) {
            while (!taken.empty()) {
                end(taken, taken.begin(), Finish::failed, std::current_exception());
            }
            return;
        }
        if (options_.on_call) {
            const std::chrono::duration<double> seconds = Clock::now() - start;
            options_.on_call(
                {part, rows, options_.max_batch, steps, seconds.count(), cache_bytes_in_use()});
        }
    }

    // --- memory ----------------------------------------------------------------------------------

    /// Blocks for the next rows of a sequence. Takes them, if need be, from kept prefixes, then
    /// from the youngest others. Returns false if only older ones have memory.
    bool reserve(Sequence& sequence, Index count) {
        while (cache_.missing_blocks(sequence.tables, count) > cache_.pool().num_free()) {
            if (!prefixes_.drop_oldest() && !preempt_younger(sequence)) {
                return false;
            }
        }
        cache_.reserve(sequence.tables, count);
        return true;
    }

    bool preempt_younger(const Sequence& sequence) {
        Queue* where = nullptr;
        typename Queue::iterator youngest;
        for (Queue* queue : {&entering_, &stepping_, &leaving_}) {
            for (auto at = queue->begin(); at != queue->end(); ++at) {
                if ((*at)->number > sequence.number && holds_memory(**at) &&
                    (where == nullptr || (*at)->number > (*youngest)->number)) {
                    where = queue;
                    youngest = at;
                }
            }
        }
        if (where == nullptr) {
            return false;
        }
        preempt(*where, youngest);
        return true;
    }

    /// Takes all memory from a running sequence; it begins again when there is room.
    void preempt(Queue& queue, typename Queue::iterator at) {
        Sequence& sequence = **at;
        ++counts_.preemptions;
        give_back(sequence);
        sequence.processed = 0;
        const auto before = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& other) {
            return other->number > sequence.number;
        });
        waiting_.splice(before, queue, at);
    }
    static bool holds_memory(const Sequence& sequence) {
        return std::any_of(sequence.tables.begin(), sequence.tables.end(),
                           [](const BlockTable& table) { return !table.blocks.empty(); });
    }

    void make_rows(Sequence& sequence, Index count) {
        for (Index i = 0; i < count; ++i) {
            const Index position = sequence.processed + i;
            sequence.rows.push_back({.tables = &sequence.tables,
                                     .token = sequence.tokens[static_cast<std::size_t>(position)],
                                     .position = position,
                                     .max_depth = sequence.options.max_depth,
                                     .place = free_places_.back()});
            free_places_.pop_back();
        }
    }
    void give_back_places(Sequence& sequence) {
        for (const ServedRow& row : sequence.rows) {
            free_places_.push_back(row.place);
        }
        sequence.rows.clear();
    }
    void give_back(Sequence& sequence) {
        give_back_places(sequence);
        cache_.clear(sequence.tables);
    }

    void end(Queue& queue, typename Queue::iterator at, Finish how, std::exception_ptr why = {}) {
        give_back(**at);
        (*at)->state->end(how, std::move(why));
        queue.erase(at);
    }
    void stop_all() {
        take_inbox();
        for (Queue* queue : {&waiting_, &entering_, &stepping_, &leaving_}) {
            while (!queue->empty()) {
                end(*queue, queue->begin(), Finish::cancelled);
            }
        }
    }

    const Model<A, B>& model_;
    EngineOptions options_;
    Context<B> context_;
    PagedKeyValueCache<B> cache_;
    Index num_places_;
    ServedRows<A, B> rows_;
    KeptPrefixes<B> prefixes_;
    std::vector<Index> free_places_;
    Queue waiting_;   // for admission, by arrival
    Queue entering_;  // for embedding and first layers
    Queue stepping_;  // for the shared block
    Queue leaving_;   // for last layers and head
    EngineCounts counts_;

    std::mutex inbox_mutex_;
    std::condition_variable_any arrived_;
    std::vector<std::unique_ptr<Sequence>> inbox_;
    Index next_number_ = 0;
};

}  // namespace mor
