// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of prompts that were served, for requests that begin alike.
#pragma once

#include <mor/serve/paged_cache.hpp>

#include <algorithm>
#include <iterator>
#include <list>
#include <span>
#include <vector>

namespace mor {

template <Backend B>
class KeptPrefixes {
public:
    /// Keeps at most `most` prompts, the latest used.
    KeptPrefixes(PagedKeyValueCache<B>& cache, Index most) : cache_{cache}, most_{most} {}

    /// Keeps what `tables` has of `tokens`, whose rows took at most max_depth steps. The blocks are
    /// shared with their owner, who only adds. Replaces what is a beginning of it.
    void keep(std::span<const TokenId> tokens, Index max_depth, const SequenceTables& tables) {
        if (most_ == 0 || std::ssize(tokens) <= cache_.pool().block_size()) {
            return;
        }
        for (auto at = prefixes_.begin(); at != prefixes_.end();) {
            const auto next = std::next(at);
            const Index common = common_length(*at, tokens, max_depth);
            if (common == std::ssize(tokens)) {
                prefixes_.splice(prefixes_.begin(), prefixes_, at);
                return;
            }
            if (common == std::ssize(at->tokens)) {
                drop(at);
            }
            at = next;
        }
        prefixes_.push_front({{tokens.begin(), tokens.end()}, max_depth, tables});
        cache_.keep(prefixes_.front().tables);
        if (std::ssize(prefixes_) > most_) {
            drop(std::prev(prefixes_.end()));
        }
    }

    /// Fills empty tables with the longest known beginning of `tokens` under the same max_depth,
    /// but never all of it: the last token's logits are needed. Returns how many tokens that was.
    Index reuse(Context<B>& context, std::span<const TokenId> tokens, Index max_depth,
                SequenceTables& tables) {
        const Index usable = find(tokens, max_depth);
        if (usable == 0) {
            return 0;
        }
        const SequenceTables& donor = prefixes_.front().tables;
        if (!make_room(cache_.num_copied(donor, usable), Spared::first)) {
            return 0;
        }
        cache_.share_prefix(context, donor, usable, tables);
        return usable;
    }

    /// What a sequence of `tokens` would find; where it finds it becomes the first prefix.
    [[nodiscard]] ReusablePrefix reusable(std::span<const TokenId> tokens, Index max_depth) {
        const Index usable = find(tokens, max_depth);
        return usable > 0 ? cache_.reusable(prefixes_.front().tables, usable) : ReusablePrefix{};
    }

    enum class Spared { none, first };

    /// Blocks that would be free without the prefixes that are not spared: sequences may hold
    /// others, too.
    [[nodiscard]] Index num_droppable(Spared spared = Spared::none) const {
        const Index all = cache_.pool().num_only_kept();
        return spared == Spared::none || prefixes_.empty()
                   ? all
                   : all - cache_.num_only_kept(prefixes_.front().tables);
    }

    /// Drops the oldest until the pool has so many free blocks. Returns false, and drops none, if
    /// those that are not spared would not be enough.
    bool make_room(Index blocks, Spared spared = Spared::none) {
        if (blocks <= cache_.pool().num_free()) {
            return true;
        }
        if (blocks > cache_.pool().num_free() + num_droppable(spared)) {
            return false;
        }
        while (blocks > cache_.pool().num_free()) {
            drop(std::prev(prefixes_.end()));
        }
        return true;
    }
    void clear() {
        while (!prefixes_.empty()) {
            drop(prefixes_.begin());
        }
    }

private:
    struct Prefix {
        std::vector<TokenId> tokens;
        Index max_depth;
        SequenceTables tables;
    };

    /// Makes the longest known beginning the first prefix. Returns how many of its tokens are of
    /// use: no less than a block, and not the last of `tokens`.
    Index find(std::span<const TokenId> tokens, Index max_depth) {
        auto best = prefixes_.end();
        Index longest = 0;
        for (auto at = prefixes_.begin(); at != prefixes_.end(); ++at) {
            const Index common = common_length(*at, tokens, max_depth);
            if (common > longest) {
                longest = common;
                best = at;
            }
        }
        const Index usable = std::min(longest, std::ssize(tokens) - 1);
        if (usable < cache_.pool().block_size()) {
            return 0;
        }
        prefixes_.splice(prefixes_.begin(), prefixes_, best);
        return usable;
    }

    void drop(typename std::list<Prefix>::iterator at) {
        cache_.drop(at->tables);
        prefixes_.erase(at);
    }

    /// How many tokens two sequences have in common; none if their rows may differ in depth.
    static Index common_length(const Prefix& prefix, std::span<const TokenId> tokens,
                               Index max_depth) {
        if (prefix.max_depth != max_depth) {
            return 0;
        }
        const auto ends =
            std::mismatch(tokens.begin(), tokens.end(), prefix.tokens.begin(), prefix.tokens.end());
        return ends.first - tokens.begin();
    }

    PagedKeyValueCache<B>& cache_;
    Index most_;
    std::list<Prefix> prefixes_;  // latest first
};

}  // namespace mor
