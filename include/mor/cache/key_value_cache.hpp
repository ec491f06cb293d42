// SPDX-License-Identifier: Apache-2.0
//
// Storage for incremental decoding: for each unrolled layer a table of the keys and values of the
// rows that were active in it, each sequence in a region of its own.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/error.hpp>
#include <mor/layers/key_values.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/rows.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace mor {

template <Backend B>
class KeyValueCache {
    using Number = ActivationElement<B>;
    using Space = typename B::Space;

public:
    /// Empty tables for `num_layers` unrolled layers; key_width = kv_heads * head_dim.
    KeyValueCache(Index num_layers, Index num_sequences, Index key_width)
        : key_width_{key_width}, lengths_(static_cast<std::size_t>(num_sequences), 0) {
        check<ShapeError>(num_sequences > 0, "mor::KeyValueCache: num_sequences is ", num_sequences,
                          ", expected at least 1");
        tables_.resize(static_cast<std::size_t>(num_layers));
        for (Table& table : tables_) {
            table.positions.resize(lengths_.size());
        }
    }

    [[nodiscard]] Index num_layers() const { return std::ssize(tables_); }
    [[nodiscard]] Index key_width() const { return key_width_; }
    [[nodiscard]] Index num_sequences() const { return std::ssize(lengths_); }

    /// Tokens of a sequence seen so far, active or not: the position of its next token.
    [[nodiscard]] Index length(Index sequence) const {
        return lengths_[static_cast<std::size_t>(sequence)];
    }
    void advance(Index sequence, Index tokens) {
        lengths_[static_cast<std::size_t>(sequence)] += tokens;
    }

    /// Forgets a sequence, so that its place can serve another.
    void clear(Index sequence) {
        lengths_[static_cast<std::size_t>(sequence)] = 0;
        for (Table& table : tables_) {
            table.positions[static_cast<std::size_t>(sequence)].clear();
        }
    }

    /// Stores keys and values [rows, key_width] of the layer's active rows.
    void append(Context<B>& context, Index layer, const Rows<B>& rows, ConstActivationView<B> keys,
                ConstActivationView<B> values) {
        Table& table = at(layer);
        scratch_.read(rows);
        std::size_t longest = 0;
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            const Index added = scratch_.offsets[s + 1] - scratch_.offsets[s];
            longest =
                std::max(longest, table.positions[s].size() + static_cast<std::size_t>(added));
        }
        reserve(context, table, static_cast<Index>(longest));
        std::vector<Index>& places = scratch_.begin;
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            std::vector<Index>& stored = table.positions[s];
            for (Index row = scratch_.offsets[s]; row < scratch_.offsets[s + 1]; ++row) {
                places.push_back(static_cast<Index>(s) * table.capacity + std::ssize(stored));
                stored.push_back(scratch_.positions[static_cast<std::size_t>(row)]);
            }
        }
        write(context, table, places, keys, values);
    }

    /// Copies the entries that a layer's table does not have yet from another layer's.
    void follow(Context<B>& context, Index layer, Index other) {
        Table& table = at(layer);
        const Table& source = at(other);
        std::size_t longest = 0;
        for (const auto& stored : source.positions) {
            longest = std::max(longest, stored.size());
        }
        reserve(context, table, static_cast<Index>(longest));
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            const Index known = std::ssize(table.positions[s]);
            const Index missing = std::ssize(source.positions[s]) - known;
            if (missing <= 0) {
                continue;
            }
            const Index from = static_cast<Index>(s) * source.capacity + known;
            const Index to = static_cast<Index>(s) * table.capacity + known;
            ops::copy<B>(context, source.keys.view().slice(from, missing),
                         table.keys.view().slice(to, missing));
            ops::copy<B>(context, source.values.view().slice(from, missing),
                         table.values.view().slice(to, missing));
            table.positions[s].assign(source.positions[s].begin(), source.positions[s].end());
        }
    }

    /// Replaces the entries at the positions of `rows`, which the layer's table must have.
    void replace(Context<B>& context, Index layer, const Rows<B>& rows, ConstActivationView<B> keys,
                 ConstActivationView<B> values) {
        Table& table = at(layer);
        scratch_.read(rows);
        std::vector<Index>& places = scratch_.begin;
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            const std::vector<Index>& stored = table.positions[s];
            for (Index row = scratch_.offsets[s]; row < scratch_.offsets[s + 1]; ++row) {
                const Index position = scratch_.positions[static_cast<std::size_t>(row)];
                const auto found = std::lower_bound(stored.begin(), stored.end(), position);
                places.push_back(static_cast<Index>(s) * table.capacity + (found - stored.begin()));
            }
        }
        write(context, table, places, keys, values);
    }

    /// What query rows may see of a layer's table: entries at their own or earlier positions.
    [[nodiscard]] KeyValues<B> visible(Context<B>& context, Index layer, const Rows<B>& queries) {
        const Table& table = at(layer);
        scratch_.read(queries);
        Index pairs = 0;
        for (std::size_t s = 0; s < lengths_.size(); ++s) {
            const std::vector<Index>& stored = table.positions[s];
            const Index first = static_cast<Index>(s) * table.capacity;
            for (Index row = scratch_.offsets[s]; row < scratch_.offsets[s + 1]; ++row) {
                const Index position = scratch_.positions[static_cast<std::size_t>(row)];
                const auto after = std::upper_bound(stored.begin(), stored.end(), position);
                scratch_.begin.push_back(first);
                scratch_.end.push_back(first + (after - stored.begin()));
                pairs += after - stored.begin();
            }
        }
        const IndexView<B> begin = context.indices(queries.size());
        const IndexView<B> end = context.indices(queries.size());
        from_host(begin, scratch_.begin);
        from_host(end, scratch_.end);
        return {table.keys.view(), table.values.view(), {begin, end, pairs}};
    }

    /// Keys that a layer has stored, of all sequences.
    [[nodiscard]] Index num_entries(Index layer) const {
        const auto& positions = tables_[static_cast<std::size_t>(layer)].positions;
        return std::transform_reduce(positions.begin(), positions.end(), Index{0}, std::plus<>{},
                                     [](const auto& stored) { return std::ssize(stored); });
    }

    /// Bytes of the stored keys and values; reserved but unused room is not counted.
    [[nodiscard]] Index bytes_in_use() const {
        Index entries = 0;
        for (Index layer = 0; layer < num_layers(); ++layer) {
            entries += num_entries(layer);
        }
        return entries * key_width_ * 2 * static_cast<Index>(sizeof(Number));
    }

    [[nodiscard]] Index bytes_reserved() const {
        Index bytes = 0;
        for (const Table& table : tables_) {
            bytes += static_cast<Index>(table.keys.size_bytes() + table.values.size_bytes());
        }
        return bytes;
    }

private:
    struct Table {
        Tensor<Number, 2, Space> keys;  // [sequences * capacity, key_width]
        Tensor<Number, 2, Space> values;
        Index capacity = 0;                         // entries a sequence has room for
        std::vector<std::vector<Index>> positions;  // [sequences][stored], ascending
    };

    /// Host memory of one call, kept for the next.
    struct Scratch {
        std::span<const Index> offsets;    // [sequences + 1] of the rows in question
        std::span<const Index> positions;  // [rows]
        std::vector<Index> begin;          // [rows], as is end
        std::vector<Index> end;
        std::vector<Index> copied_offsets;  // from a device
        std::vector<Index> copied_positions;

        void read(const Rows<B>& rows) {
            offsets = rows.host_offsets;
            positions = rows.host_positions;
            if (!rows.knows_offsets()) {
                to_host(rows.offsets, copied_offsets);
                offsets = copied_offsets;
            }
            if (!rows.knows_positions()) {
                to_host(rows.positions, copied_positions);
                positions = copied_positions;
            }
            begin.clear();
            end.clear();
        }
    };

    static void write(Context<B>& context, Table& table, const std::vector<Index>& places,
                      ConstActivationView<B> keys, ConstActivationView<B> values) {
        const typename Arena<Space>::Scope scope{context.arena()};
        const IndexView<B> destination = context.indices(std::ssize(places));
        from_host(destination, places);
        ops::scatter_rows<B>(context, keys, destination, table.keys.view());
        ops::scatter_rows<B>(context, values, destination, table.values.view());
    }

    Table& at(Index layer) { return tables_[static_cast<std::size_t>(layer)]; }

    void reserve(Context<B>& context, Table& table, Index entries) {
        if (entries <= table.capacity) {
            return;
        }
        constexpr Index smallest = 32;
        const Index capacity = std::max({entries, 2 * table.capacity, smallest});
        const std::array<Index, 2> extents{num_sequences() * capacity, key_width_};
        Tensor<Number, 2, Space> keys{extents};
        Tensor<Number, 2, Space> values{extents};
        for (Index s = 0; s < num_sequences() && table.capacity > 0; ++s) {
            const Index stored = std::ssize(table.positions[static_cast<std::size_t>(s)]);
            const Index old = s * table.capacity;
            ops::copy<B>(context, table.keys.view().slice(old, stored),
                         keys.view().slice(s * capacity, stored));
            ops::copy<B>(context, table.values.view().slice(old, stored),
                         values.view().slice(s * capacity, stored));
        }
        table.keys = std::move(keys);
        table.values = std::move(values);
        table.capacity = capacity;
    }

    Index key_width_;
    std::vector<Index> lengths_;
    std::vector<Table> tables_;
    Scratch scratch_;
};

}  // namespace mor
