// SPDX-License-Identifier: Apache-2.0
//
// A request on its way through an engine, and the queues in which it waits.
#pragma once

#include <mor/serve/paged_cache.hpp>
#include <mor/serve/request.hpp>
#include <mor/serve/served_row.hpp>

#include <algorithm>
#include <iterator>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace mor::detail {

struct Sequence {
    Sequence(std::shared_ptr<RequestState> shared, std::span<const TokenId> prompt,
             RequestOptions request)
        : state{std::move(shared)},
          options{std::move(request)},
          sampler{options.sampling},
          tokens{prompt.begin(), prompt.end()},
          prompt_length{std::ssize(prompt)} {}

    std::shared_ptr<RequestState> state;
    RequestOptions options;
    Sampler sampler;
    std::vector<TokenId> tokens;  // prompt and answer
    Index prompt_length;
    Index number = 0;        // of arrival
    Index processed = 0;     // tokens whose keys are stored
    bool has_begun = false;  // since it was admitted
    SequenceTables tables = {};
    std::vector<ServedRow> rows = {};  // in flight

    [[nodiscard]] Index num_new() const { return std::ssize(tokens) - prompt_length; }
    [[nodiscard]] Index num_unprocessed() const { return std::ssize(tokens) - processed; }
    /// When it ends, at most: the last token is never read.
    [[nodiscard]] Index most_processed(Index max_positions) const {
        return prompt_length + std::min(options.max_new_tokens - 1, max_positions - prompt_length);
    }
    /// Tokens that it reads after those it has, if its answer takes this share of what it may.
    [[nodiscard]] double expected_growth(Index max_positions, double share) const {
        const Index most = most_processed(max_positions) + 1 - prompt_length;  // of the answer
        return std::max(0.0, share * static_cast<double>(most) - static_cast<double>(num_new()));
    }
    [[nodiscard]] Index rows_going_on() const {
        return std::count_if(rows.begin(), rows.end(),
                             [](const ServedRow& row) { return row.goes_on; });
    }
    [[nodiscard]] bool goes_on() const { return rows_going_on() > 0; }
    /// Of the row that goes on at the lowest position.
    [[nodiscard]] Index depth() const {
        return std::find_if(rows.begin(), rows.end(),
                            [](const ServedRow& row) { return row.goes_on; })
            ->depth;
    }
};

/// Throws ConfigError or ShapeError if no model of this size can serve what is asked for.
inline void check_request(const Sequence& sequence, const ModelConfig& config) {
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
}

using Queue = std::list<std::unique_ptr<Sequence>>;

struct Queues {
    Queue waiting;   // for admission, by arrival
    Queue entering;  // for embedding and first layers
    Queue stepping;  // for the shared block
    Queue leaving;   // for last layers and head
    Queue taken;     // in the call that is running

    [[nodiscard]] Index num_running() const {
        return std::ssize(entering) + std::ssize(stepping) + std::ssize(leaving) +
               std::ssize(taken);
    }

    /// Calls function(queue) for the queues of admitted sequences.
    template <class Function>
    void for_each_running(Function&& function) {
        for (Queue* queue : {&entering, &stepping, &leaving, &taken}) {
            function(*queue);
        }
    }

    /// Calls function(queue, iterator) for every sequence; it may remove the one it is shown.
    template <class Function>
    void for_each(Function&& function) {
        for (Queue* queue : {&waiting, &entering, &stepping, &leaving, &taken}) {
            for (auto at = queue->begin(); at != queue->end();) {
                const auto next = std::next(at);
                function(*queue, at);
                at = next;
            }
        }
    }

    void take(Queue& from) { taken.splice(taken.end(), from, from.begin()); }

    /// After a call: rows with steps to take wait for them, others to leave.
    void sort_taken() {
        while (!taken.empty()) {
            Queue& queue = taken.front()->goes_on() ? stepping : leaving;
            queue.splice(queue.end(), taken, taken.begin());
        }
    }
};

}  // namespace mor::detail
