// SPDX-License-Identifier: Apache-2.0
//
// Paged key-value storage: for each sequence and each unrolled layer that keeps keys a table of
// blocks. Cache policies differ only in which layers have tables of their own.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/model/key_value_sources.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/serve/block_pool.hpp>

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace mor {

/// The entries of one sequence in one layer: `positions`, ascending, fill the blocks in order.
struct BlockTable {
    std::vector<Index> blocks;
    std::vector<Index> positions;
};

/// The tables of one sequence, [unrolled layers]; those of layers without keys stay empty.
using SequenceTables = std::vector<BlockTable>;

/// What tables that are kept spare a sequence that begins alike.
struct ReusablePrefix {
    Index tokens = 0;
    Index blocks = 0;     // that it would share
    Index only_kept = 0;  // of these, held by nobody
};

template <Backend B>
class PagedKeyValueCache {
public:
    /// As many blocks as fit into `bytes`. uses [unrolled layers].
    PagedKeyValueCache(std::vector<detail::KeyUse> uses, Index key_width, Index bytes,
                       Index block_size)
        : uses_{std::move(uses)},
          pool_{bytes / BlockPool<B>::block_bytes(block_size, key_width), block_size, key_width} {}

    [[nodiscard]] const BlockPool<B>& pool() const { return pool_; }
    [[nodiscard]] BlockPool<B>& pool() { return pool_; }
    [[nodiscard]] const detail::KeyUse& use_of(Index layer) const {
        return uses_[static_cast<std::size_t>(layer)];
    }
    /// Tables of a sequence that are in use.
    [[nodiscard]] Index num_tables() const {
        return std::count_if(uses_.begin(), uses_.end(),
                             [](const detail::KeyUse& use) { return use.computes(); });
    }
    [[nodiscard]] SequenceTables make_tables() const { return SequenceTables(uses_.size()); }

    /// Blocks that a sequence of `tokens` tokens needs if every token takes every step.
    [[nodiscard]] Index most_blocks(Index tokens) const {
        return num_tables() * blocks_for(tokens);
    }
    [[nodiscard]] Index most_bytes(Index tokens) const {
        return most_blocks(tokens) *
               BlockPool<B>::block_bytes(pool_.block_size(), pool_.key_width());
    }

    /// Blocks that `tables` lack for `tokens` more tokens, whatever their depths.
    [[nodiscard]] Index missing_blocks(const SequenceTables& tables, Index tokens) const {
        Index missing = 0;
        for_each_table(tables, [&](const BlockTable& table, Index entries) {
            missing += std::max<Index>(0, blocks_for(entries + tokens) - std::ssize(table.blocks));
        });
        return missing;
    }

    /// Takes those blocks from the pool, which must have them.
    void reserve(SequenceTables& tables, Index tokens) {
        for_each_table(tables, [&](BlockTable& table, Index entries) {
            while (std::ssize(table.blocks) < blocks_for(entries + tokens)) {
                table.blocks.push_back(pool_.allocate());
            }
        });
    }

    /// Gives back blocks without entries.
    void trim(SequenceTables& tables) {
        for (BlockTable& table : tables) {
            while (std::ssize(table.blocks) > blocks_for(std::ssize(table.positions))) {
                pool_.release(table.blocks.back());
                table.blocks.pop_back();
            }
        }
    }

    void clear(SequenceTables& tables) {
        for (BlockTable& table : tables) {
            table.positions.clear();
        }
        trim(tables);
    }

    /// Keeps the blocks of tables that are in use, also when those give them back.
    void keep(const SequenceTables& tables) {
        for_each_block(tables, [this](Index block) { pool_.keep(block); });
    }
    void drop(const SequenceTables& kept) {
        for_each_block(kept, [this](Index block) { pool_.drop(block); });
    }
    /// Of kept tables, those blocks that nobody holds.
    [[nodiscard]] Index num_only_kept(const SequenceTables& kept) const {
        Index blocks = 0;
        for_each_block(kept, [&](Index block) { blocks += pool_.is_held(block) ? 0 : 1; });
        return blocks;
    }

    /// Blocks of tables that no other tables in use share.
    [[nodiscard]] Index num_own(const SequenceTables& tables) const {
        Index blocks = 0;
        for_each_block(tables, [&](Index block) { blocks += pool_.is_shared(block) ? 0 : 1; });
        return blocks;
    }
    /// Keys in tables, whoever else shares their blocks.
    [[nodiscard]] static Index num_entries(const SequenceTables& tables) {
        return std::transform_reduce(
            tables.begin(), tables.end(), Index{0}, std::plus<>{},
            [](const BlockTable& table) { return std::ssize(table.positions); });
    }
    [[nodiscard]] Index entry_bytes(const SequenceTables& tables) const {
        return BlockPool<B>::block_bytes(num_entries(tables), pool_.key_width());
    }

    /// A place for the entry at `position`, which comes after all others. Its block is reserved.
    [[nodiscard]] Index append(BlockTable& table, Index position) {
        const Index entry = std::ssize(table.positions);
        table.positions.push_back(position);
        return place(table, entry);
    }

    /// Where entry number `entry` of a table is in the pool.
    [[nodiscard]] Index place(const BlockTable& table, Index entry) const {
        return table.blocks[static_cast<std::size_t>(entry / pool_.block_size())] *
                   pool_.block_size() +
               entry % pool_.block_size();
    }

    /// Lets `tables`, which are empty, begin with what `donor` has of the first `tokens` tokens.
    /// Whole blocks are shared; of others, num_copied of them, the entries are copied to free ones.
    void share_prefix(Context<B>& context, const SequenceTables& donor, Index tokens,
                      SequenceTables& tables) {
        std::vector<Index> from;
        std::vector<Index> to;
        for (std::size_t layer = 0; layer < donor.size(); ++layer) {
            const BlockTable& source = donor[layer];
            BlockTable& table = tables[layer];
            const Index entries = entries_before(source, tokens);
            const Index whole = entries / pool_.block_size();
            table.positions.assign(source.positions.begin(), source.positions.begin() + entries);
            table.blocks.assign(source.blocks.begin(), source.blocks.begin() + whole);
            for (const Index block : table.blocks) {
                pool_.hold(block);
            }
            if (entries % pool_.block_size() > 0) {
                table.blocks.push_back(pool_.allocate());
            }
            for (Index entry = whole * pool_.block_size(); entry < entries; ++entry) {
                from.push_back(place(source, entry));
                to.push_back(place(table, entry));
            }
        }
        copy_entries(context, from, to);
    }

    /// Blocks that share_prefix would allocate.
    [[nodiscard]] Index num_copied(const SequenceTables& donor, Index tokens) const {
        Index blocks = 0;
        for_each_table(donor, [&](const BlockTable& table, Index /*entries*/) {
            blocks += entries_before(table, tokens) % pool_.block_size() > 0 ? 1 : 0;
        });
        return blocks;
    }
    /// What it would share.
    [[nodiscard]] ReusablePrefix reusable(const SequenceTables& donor, Index tokens) const {
        ReusablePrefix found{.tokens = tokens};
        for_each_table(donor, [&](const BlockTable& table, Index /*entries*/) {
            const Index whole = entries_before(table, tokens) / pool_.block_size();
            found.blocks += whole;
            found.only_kept += std::count_if(table.blocks.begin(), table.blocks.begin() + whole,
                                             [this](Index block) { return !pool_.is_held(block); });
        });
        return found;
    }

    /// Copies entries between places of the pool.
    void copy_entries(Context<B>& context, const std::vector<Index>& from,
                      const std::vector<Index>& to) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const IndexView<B> source = context.indices(std::ssize(from));
        const IndexView<B> destination = context.indices(std::ssize(to));
        from_host(source, from);
        from_host(destination, to);
        for (const ActivationView<B>& entries : {pool_.keys(), pool_.values()}) {
            const ActivationView<B> moved =
                context.activation_matrix(source.size(), entries.columns());
            ops::gather_rows<B>(context, entries, source, moved);
            ops::scatter_rows<B>(context, moved, destination, entries);
        }
    }

private:
    [[nodiscard]] Index blocks_for(Index entries) const {
        return (entries + pool_.block_size() - 1) / pool_.block_size();
    }
    static Index entries_before(const BlockTable& table, Index position) {
        return std::lower_bound(table.positions.begin(), table.positions.end(), position) -
               table.positions.begin();
    }
    template <class Function>
    static void for_each_block(const SequenceTables& tables, Function&& function) {
        for (const BlockTable& table : tables) {
            std::for_each(table.blocks.begin(), table.blocks.end(), function);
        }
    }
    /// Calls function(table, entries): an updating table may still lack entries of its owner.
    template <class Tables, class Function>
    void for_each_table(Tables& tables, Function&& function) const {
        for (std::size_t layer = 0; layer < uses_.size(); ++layer) {
            if (uses_[layer].computes()) {
                const auto owner = static_cast<std::size_t>(uses_[layer].key_layer);
                function(tables[layer], std::ssize(tables[owner].positions));
            }
        }
    }

    std::vector<detail::KeyUse> uses_;
    BlockPool<B> pool_;
};

}  // namespace mor
