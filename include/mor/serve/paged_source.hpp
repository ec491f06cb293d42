// SPDX-License-Identifier: Apache-2.0
//
// How one call of a layer, whose rows may belong to different sequences and recursion steps, finds
// keys and values in paged storage.
#pragma once

#include <mor/layers/key_values.hpp>
#include <mor/serve/paged_cache.hpp>
#include <mor/serve/served_row.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace mor {

/// One row of a call: whose tables it uses, which unrolled layer the call is for it, and where in
/// its sequence it is. Rows of one sequence come in the order of their positions.
struct KeyRow {
    SequenceTables* tables = nullptr;
    Index layer = 0;
    Index position = 0;
};

template <Backend B>
class PagedSource {
    using Role = detail::KeyUse::Role;

public:
    PagedSource(PagedKeyValueCache<B>& cache, std::span<const KeyRow> rows)
        : cache_{cache}, rows_{rows} {}

    bool computes() const {
        return std::any_of(rows_.begin(), rows_.end(), [this](const KeyRow& row) {
            return cache_.use_of(row.layer).computes();
        });
    }

    void publish(Context<B>& context, ActivationView<B> keys, ActivationView<B> values) {
        std::vector<Index> own;     // which rows have keys to store
        std::vector<Index> places;  // and where
        std::vector<Index> from;    // what updating tables take from their owners
        std::vector<Index> to;
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            const KeyRow& row = rows_[i];
            const detail::KeyUse& use = cache_.use_of(row.layer);
            BlockTable& table = table_of(row, row.layer);
            if (use.role == Role::computes) {
                own.push_back(static_cast<Index>(i));
                places.push_back(cache_.append(table, row.position));
            } else if (use.role == Role::updates) {
                const BlockTable& owner = table_of(row, use.key_layer);
                for (Index e = std::ssize(table.positions); e < std::ssize(owner.positions); ++e) {
                    from.push_back(cache_.place(owner, e));
                    to.push_back(
                        cache_.append(table, owner.positions[static_cast<std::size_t>(e)]));
                }
                own.push_back(static_cast<Index>(i));
                places.push_back(cache_.place(table, entries_up_to(table, row.position) - 1));
            }
        }
        cache_.copy_entries(context, from, to);
        store(context, own, places, keys, cache_.pool().keys());
        store(context, own, places, values, cache_.pool().values());
    }

    KeyValues<B> visible(Context<B>& context) {
        const Index block_size = cache_.pool().block_size();
        std::vector<Index> begin;
        std::vector<Index> end;
        std::vector<Index> blocks;
        const BlockTable* shown = nullptr;
        Index base = 0;
        Index pairs = 0;
        for (const KeyRow& row : rows_) {
            const detail::KeyUse& use = cache_.use_of(row.layer);
            const BlockTable& table =
                table_of(row, use.role == Role::reads ? use.key_layer : row.layer);
            if (&table != shown) {
                shown = &table;
                base = std::ssize(blocks) * block_size;
                blocks.insert(blocks.end(), table.blocks.begin(), table.blocks.end());
            }
            const Index entries = entries_up_to(table, row.position);
            begin.push_back(base);
            end.push_back(base + entries);
            pairs += entries;
        }
        return {cache_.pool().keys(),
                cache_.pool().values(),
                {detail::on_device(context, begin), detail::on_device(context, end), pairs,
                 detail::on_device(context, blocks), block_size}};
    }

private:
    static BlockTable& table_of(const KeyRow& row, Index layer) {
        return (*row.tables)[static_cast<std::size_t>(layer)];
    }
    static Index entries_up_to(const BlockTable& table, Index position) {
        return std::upper_bound(table.positions.begin(), table.positions.end(), position) -
               table.positions.begin();
    }
    static void store(Context<B>& context, const std::vector<Index>& own,
                      const std::vector<Index>& places, ConstActivationView<B> from,
                      ActivationView<B> pool) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const ConstIndexView<B> destination = detail::on_device(context, places);
        if (std::ssize(own) == from.rows()) {
            ops::scatter_rows<B>(context, from, destination, pool);
            return;
        }
        const ActivationView<B> kept = context.activation_matrix(std::ssize(own), from.columns());
        ops::gather_rows<B>(context, from, detail::on_device(context, own), kept);
        ops::scatter_rows<B>(context, kept, destination, pool);
    }

    PagedKeyValueCache<B>& cache_;
    std::span<const KeyRow> rows_;
};

}  // namespace mor
