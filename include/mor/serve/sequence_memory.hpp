// SPDX-License-Identifier: Apache-2.0
//
// Who has memory: places for the rows in flight, blocks for keys and values. Admission, growth,
// and what happens when memory is short.
#pragma once

#include <mor/serve/engine_options.hpp>
#include <mor/serve/memory_outlook.hpp>
#include <mor/serve/paged_cache.hpp>
#include <mor/serve/prefixes.hpp>
#include <mor/serve/sequence.hpp>

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace mor::detail {

template <Backend B>
class SequenceMemory {
public:
    SequenceMemory(PagedKeyValueCache<B>& cache, const EngineOptions& options, Index max_positions,
                   Index num_places)
        : cache_{cache},
          prefixes_{cache, options.max_prefixes},
          expected_length_{options.expected_length},
          max_positions_{max_positions} {
        for (Index place = num_places; place > 0; --place) {
            free_places_.push_back(place - 1);
        }
    }

    /// Whether a waiting sequence has room beside the running ones: at once, and as far as can be
    /// foreseen until they end. Kept prefixes will make room when it is needed. One that is alone
    /// always has.
    [[nodiscard]] bool has_room(const Sequence& candidate, Queues& queues) {
        return queues.num_running() == 0 ||
               (has_room_now(candidate, queues) && has_room_later(candidate, queues));
    }

    /// Gives an admitted sequence what is kept of a beginning like its own. Returns how many
    /// tokens.
    Index begin(Context<B>& context, Sequence& sequence) {
        sequence.tables = cache_.make_tables();
        sequence.has_begun = false;
        sequence.processed =
            prefixes_.reuse(context, sequence.tokens, sequence.options.max_depth, sequence.tables);
        return sequence.processed;
    }

    /// Blocks for the next rows of a sequence. Takes them, if need be, from kept prefixes, then
    /// from the youngest others, which begin again later. Returns false if only older ones, or ones
    /// in the running call, have memory; and preempts none where that is known beforehand.
    [[nodiscard]] bool reserve(Sequence& sequence, Index count, Queues& queues) {
        const Index missing = cache_.missing_blocks(sequence.tables, count);
        const Index spare = cache_.pool().num_free() + prefixes_.num_droppable();
        if (missing > spare && missing > spare + num_preemptable(sequence, queues)) {
            return false;
        }
        while (missing > cache_.pool().num_free() && !prefixes_.make_room(missing)) {
            if (!preempt_younger(sequence, queues)) {
                return false;
            }
        }
        cache_.reserve(sequence.tables, count);
        return true;
    }

    /// Takes all memory from a running sequence; it begins again when there is room.
    void preempt(Queues& queues, Queue& queue, Queue::iterator at) {
        Sequence& sequence = **at;
        ++num_preemptions_;
        give_back(sequence);
        sequence.processed = 0;
        const auto before =
            std::find_if(queues.waiting.begin(), queues.waiting.end(),
                         [&](const auto& other) { return other->number > sequence.number; });
        queues.waiting.splice(before, queue, at);
    }

    [[nodiscard]] Index num_free_places() const { return std::ssize(free_places_); }
    [[nodiscard]] Index num_preemptions() const { return num_preemptions_; }

    /// Rows for the next `count` tokens of a sequence, whose blocks are reserved.
    void make_rows(Sequence& sequence, Index count) {
        sequence.has_begun = true;
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
    /// Ends the rows of a sequence, whose entries stay.
    void end_rows(Sequence& sequence) {
        for (const ServedRow& row : sequence.rows) {
            free_places_.push_back(row.place);
        }
        sequence.rows.clear();
        cache_.trim(sequence.tables);
    }
    void give_back(Sequence& sequence) {
        ended_entries_ += cache_.num_entries(sequence.tables);
        ended_tokens_ += sequence.processed;
        end_rows(sequence);
        cache_.clear(sequence.tables);
    }

    /// Keeps what a sequence without rows has stored, for requests that begin alike.
    void keep(const Sequence& sequence) {
        prefixes_.keep(
            std::span{sequence.tokens}.first(static_cast<std::size_t>(sequence.processed)),
            sequence.options.max_depth, sequence.tables);
    }
    void forget_prefixes() { prefixes_.clear(); }

private:
    /// All blocks that its tokens, and the tokens that others have yet to process, may need, and a
    /// block a table for growth.
    [[nodiscard]] bool has_room_now(const Sequence& candidate, Queues& queues) {
        Index needed =
            cache_.most_blocks(std::ssize(candidate.tokens) + cache_.pool().block_size());
        queues.for_each_running([&](const Queue& queue) {
            for (const auto& sequence : queue) {
                needed += cache_.missing_blocks(
                    sequence->tables, sequence->num_unprocessed() + cache_.pool().block_size());
            }
        });
        const Index free = cache_.pool().num_free();
        if (needed <= free || needed <= free + prefixes_.num_droppable()) {
            return true;
        }
        // Or it shares blocks of a prefix that other sequences hold, too.
        const Index shared =
            prefixes_.reusable(candidate.tokens, candidate.options.max_depth).blocks;
        return shared > 0 &&
               needed - shared <= free + prefixes_.num_droppable(KeptPrefixes<B>::Spared::first);
    }

    /// The same while answers grow, if tokens go as deep as they did so far.
    [[nodiscard]] bool has_room_later(const Sequence& candidate, Queues& queues) {
        Index entries = ended_entries_;
        Index tokens = ended_tokens_;
        queues.for_each_running([&](const Queue& queue) {
            for (const auto& sequence : queue) {
                entries += cache_.num_entries(sequence->tables);
                tokens += sequence->processed;
            }
        });
        const auto most = static_cast<double>(cache_.num_tables());
        const double mean =
            tokens > 0 ? std::min(most, static_cast<double>(entries) / static_cast<double>(tokens))
                       : most;
        outlook_.clear();
        const auto add = [&](const Sequence& sequence, Index own, Index unread) {
            const double growth = mean / static_cast<double>(cache_.pool().block_size());
            outlook_.push_back(
                {.blocks = static_cast<double>(own) + growth * static_cast<double>(unread),
                 .growth = growth,
                 .tokens = sequence.expected_growth(max_positions_, expected_length_)});
        };
        Index own_blocks = 0;
        queues.for_each_running([&](const Queue& queue) {
            for (const auto& sequence : queue) {
                const Index own = cache_.num_own(sequence->tables);
                own_blocks += own;
                add(*sequence, own, sequence->num_unprocessed());
            }
        });
        const ReusablePrefix prefix =
            prefixes_.reusable(candidate.tokens, candidate.options.max_depth);
        add(candidate, cache_.num_tables() + prefix.only_kept,
            std::ssize(candidate.tokens) - prefix.tokens);
        const BlockPool<B>& pool = cache_.pool();
        const Index others =
            pool.num_blocks() - pool.num_free() - pool.num_only_kept() - own_blocks;
        return peak_blocks(outlook_) <= static_cast<double>(pool.num_blocks() - others);
    }

    /// Calls function(queue, iterator) for sequences that a sequence may preempt.
    template <class Function>
    static void for_each_younger(const Sequence& sequence, Queues& queues, Function&& function) {
        for (Queue* queue : {&queues.entering, &queues.stepping, &queues.leaving}) {
            for (auto at = queue->begin(); at != queue->end(); ++at) {
                if ((*at)->number > sequence.number && num_blocks(**at) > 0) {
                    function(*queue, at);
                }
            }
        }
    }
    /// Blocks of those sequences: at least as many as would be free without them.
    static Index num_preemptable(const Sequence& sequence, Queues& queues) {
        Index blocks = 0;
        for_each_younger(sequence, queues, [&](const Queue& /*queue*/, Queue::iterator at) {
            blocks += num_blocks(**at);
        });
        return blocks;
    }
    bool preempt_younger(const Sequence& sequence, Queues& queues) {
        Queue* where = nullptr;
        Queue::iterator youngest;
        for_each_younger(sequence, queues, [&](Queue& queue, Queue::iterator at) {
            if (where == nullptr || (*at)->number > (*youngest)->number) {
                where = &queue;
                youngest = at;
            }
        });
        if (where == nullptr) {
            return false;
        }
        preempt(queues, *where, youngest);
        return true;
    }
    static Index num_blocks(const Sequence& sequence) {
        return std::transform_reduce(
            sequence.tables.begin(), sequence.tables.end(), Index{0}, std::plus<>{},
            [](const BlockTable& table) { return std::ssize(table.blocks); });
    }

    PagedKeyValueCache<B>& cache_;
    KeptPrefixes<B> prefixes_;
    double expected_length_;
    Index max_positions_;
    std::vector<GrowingSequence> outlook_;
    std::vector<Index> free_places_;
    Index ended_entries_ = 0;  // of sequences that gave their memory back
    Index ended_tokens_ = 0;
    Index num_preemptions_ = 0;
};

}  // namespace mor::detail
