// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of prompts that were served, for requests that begin alike.
#pragma once

#include <mor/serve/paged_cache.hpp>

#include <algorithm>
#include <list>
#include <span>
#include <utility>
#include <vector>

namespace mor {

template <Backend B>
class KeptPrefixes {
public:
    /// Keeps at most `most` prompts, the latest used.
    KeptPrefixes(PagedKeyValueCache<B>& cache, Index most) : cache_{cache}, most_{most} {}

    /// Keeps what `tables` has of `tokens`. The blocks are shared with their owner, who only adds.
    void keep(const std::vector<TokenId>& tokens, const SequenceTables& tables) {
        if (most_ == 0 || std::ssize(tokens) <= cache_.pool().block_size() ||
            longest(tokens).second == std::ssize(tokens)) {
            return;
        }
        prefixes_.push_front({tokens, tables});
        for (const BlockTable& table : prefixes_.front().tables) {
            for (const Index block : table.blocks) {
                cache_.pool().share(block);
            }
        }
        if (std::ssize(prefixes_) > most_) {
            drop_oldest();
        }
    }

    /// Fills empty tables with the longest known beginning of `tokens`, but never all of it: the
    /// last token's logits are needed. Returns how many tokens that was.
    Index reuse(Context<B>& context, const std::vector<TokenId>& tokens, SequenceTables& tables) {
        const auto [prefix, common] = longest(tokens);
        const Index usable = std::min(common, std::ssize(tokens) - 1);
        if (usable < cache_.pool().block_size() ||
            !cache_.share_prefix(context, prefix->tables, usable, tables)) {
            return 0;
        }
        prefixes_.splice(prefixes_.begin(), prefixes_, prefix);
        return usable;
    }

    /// Returns false if there was none.
    bool drop_oldest() {
        if (prefixes_.empty()) {
            return false;
        }
        cache_.clear(prefixes_.back().tables);
        prefixes_.pop_back();
        return true;
    }
    void clear() {
        while (drop_oldest()) {
        }
    }

private:
    struct Prefix {
        std::vector<TokenId> tokens;
        SequenceTables tables;
    };
    using Iterator = typename std::list<Prefix>::iterator;

    /// The prefix with most tokens in common, and how many.
    std::pair<Iterator, Index> longest(std::span<const TokenId> tokens) {
        std::pair<Iterator, Index> best{prefixes_.end(), 0};
        for (auto at = prefixes_.begin(); at != prefixes_.end(); ++at) {
            const auto ends =
                std::mismatch(tokens.begin(), tokens.end(), at->tokens.begin(), at->tokens.end());
            const Index common = ends.first - tokens.begin();
            if (common > best.second) {
                best = {at, common};
            }
        }
        return best;
    }

    PagedKeyValueCache<B>& cache_;
    Index most_;
    std::list<Prefix> prefixes_;  // latest first
};

}  // namespace mor
