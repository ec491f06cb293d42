// SPDX-License-Identifier: Apache-2.0
//
// Matrix products over panels: a tile of rows and columns stays in registers, and each value of the
// left factor meets whole packets. An element of a product is one chain of fused multiply-adds in
// the order of the depth, cut at fixed places, whatever tile, panel or thread it is in: see
// docs/design/0006-batch-invariance.md.
#pragma once

#include <mor/backends/cpu/cache_lines.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/packing.hpp>
#include <mor/ops/linear.hpp>

#include <algorithm>
#include <array>

namespace mor::cpu::detail {

inline constexpr Index panel_packets = num_registers >= 32 ? 3 : 2;
inline constexpr Index tile_rows = num_registers >= 32 ? 8 : 6;
/// Of this depth a panel fits into a second-level cache. Longer sums are cut, at multiples of it.
inline constexpr Index panel_depth = 2'048;

/// What is fetched into the second-level cache meanwhile, `step` elements on for each group of
/// depths.
template <class Stored>
struct Ahead {
    const Stored* data;
    Index step = line_elements<Stored>;
};

/// out [R, columns] = or += left [R, depth] * panel [depth, panel_width]; the depth is filled up.
/// For each group of depths a cache line from `ahead` on is fetched into the second-level cache.
template <Index R, class F>
void multiply_tile(LeftFactor<const typename F::Stored> left, const typename F::Stored* panel,
                   Ahead<typename F::Stored> ahead, Index depth, typename F::Sum* out,
                   Index out_stride, Index columns, Write write) {
    using namespace Eigen::internal;
    using T = typename F::Sum;
    constexpr auto packets = static_cast<std::size_t>(F::packets);
    constexpr Index size = packet_size<T>;
    constexpr Index width = panel_width<F>;
    std::array<std::array<Lanes<T>, packets>, static_cast<std::size_t>(R)> sums;
    for (auto& row : sums) {
        row.fill({pset1<Packet<T>>(T{0})});
    }
    for (Index k = 0; k < depth; k += F::group) {
        prefetch_line(ahead.data);
        ahead.data += ahead.step;
        std::array<decltype(F::load(panel)), packets> right;
        for (std::size_t v = 0; v < packets; ++v) {
            right[v] = F::load(panel + k * width + static_cast<Index>(v) * size * F::group);
        }
        for (std::size_t r = 0; r < sums.size(); ++r) {
            const auto value =
                F::broadcast(left.data + static_cast<Index>(r) * left.row_stride + k);
            for (std::size_t v = 0; v < packets; ++v) {
                sums[r][v] = F::multiply_add(value, right[v], sums[r][v]);
            }
        }
    }
    alignas(64) std::array<T, static_cast<std::size_t>(width)> line;
    for (std::size_t r = 0; r < sums.size(); ++r) {
        T* const own = out + static_cast<Index>(r) * out_stride;
        for (std::size_t v = 0; v < packets; ++v) {
            const Index column = static_cast<Index>(v) * size;
            const auto sum = sums[r][v].packet;
            if (columns < width) {
                pstoreu(line.data() + column, sum);
            } else if (write == Write::overwrite) {
                pstoreu(own + column, sum);
            } else {
                pstoreu(own + column, padd(ploadu<Packet<T>>(own + column), sum));
            }
        }
        for (Index c = 0; c < columns && columns < width; ++c) {
            const T sum = line[static_cast<std::size_t>(c)];
            own[c] = write == Write::overwrite ? sum : own[c] + sum;
        }
    }
}

/// The same for `rows` rows, at most tile_rows.
template <class F, Index R = tile_rows>
void multiply_rows(Index rows, LeftFactor<const typename F::Stored> left,
                   const typename F::Stored* panel, Ahead<typename F::Stored> ahead, Index depth,
                   typename F::Sum* out, Index out_stride, Index columns, Write write) {
    if (rows == R) {
        multiply_tile<R, F>(left, panel, ahead, depth, out, out_stride, columns, write);
    } else if constexpr (R > 1) {
        multiply_rows<F, R - 1>(rows, left, panel, ahead, depth, out, out_stride, columns, write);
    }
}

/// Whether panels follow each other in memory, or are made when they are asked for.
enum class PanelOrder { in_memory, made };

/// y [rows, columns] = or += left [rows, depth] * right, whose panels `panel_of(panel, first,
/// depth)` gives, each depth by depth from `first` on. Threads take panels, and rows if there are
/// few of those.
template <class F, class B, class T, class PanelOf>
void multiply_panels(const B& cpu, LeftFactor<const typename F::Stored> left, Index depth,
                     View<T, 2> y, Write write, PanelOrder order, PanelOf&& panel_of) {
    using Stored = typename F::Stored;
    constexpr Index width = panel_width<F>;
    const Index panels = num_panels<F>(y.columns());
    // A panel that is made is made for all rows at once, if there are panels enough for all.
    const bool is_whole = order == PanelOrder::made && panels >= cpu.threads();
    const Index block_rows = is_whole ? std::max<Index>(1, y.rows()) : 8 * tile_rows;
    constexpr Index multiplications_per_piece = 65'536;
    const Index row_blocks = (y.rows() + block_rows - 1) / block_rows;
    const Index items = panels * row_blocks;
    const Index item_work =
        std::max<Index>(1, std::min(block_rows, y.rows()) * width * std::min(depth, panel_depth));
    const Index grain = std::max<Index>(1, multiplications_per_piece / item_work);
    const auto multiply_panel = [&](Index panel, Index first_row, Index end_row, Index k,
                                    Index length) {
        const Index column = panel * width;
        const Index columns = std::min(width, y.columns() - column);
        const Index padded = padded_depth<F>(length);
        const Stored* const packed = panel_of(panel, k, length);
        // While the tiles of a panel are at work, the next panel comes out of memory, a piece with
        // each.
        const Index tiles = (end_row - first_row + tile_rows - 1) / tile_rows;
        const Index step = std::min(line_elements<Stored>, (width * F::group + tiles - 1) / tiles);
        for (Index row = first_row; row < end_row; row += tile_rows) {
            const Index piece = step * (row - first_row) / tile_rows;
            const bool fetches = order == PanelOrder::in_memory && piece < width * F::group;
            const Stored* const ahead =
                packed + (fetches ? width * padded + piece * padded / F::group : 0);
            multiply_rows<F>(std::min(tile_rows, end_row - row), left.at(row, k), packed,
                             {ahead, step}, padded, y.data() + row * y.columns() + column,
                             y.columns(), columns, k == 0 ? write : Write::accumulate);
        }
    };
    // Where panels are made, all of them are for a part of the depth before the next: the left
    // factor's columns of it stay in a cache.
    const Index part = order == PanelOrder::made ? panel_depth : std::max<Index>(1, depth);
    for (Index begin = 0; begin == 0 || begin < depth; begin += part) {
        const Index end = std::min(depth, begin + part);
        cpu.parallel_for(items, grain, [&](Index item, Index last) {
            while (item < last) {
                const Index panel = item / row_blocks;
                const Index first_block = item % row_blocks;
                const Index blocks = std::min(row_blocks - first_block, last - item);
                const Index first_row = first_block * block_rows;
                const Index end_row = std::min(y.rows(), (first_block + blocks) * block_rows);
                for (Index k = begin; k == begin || k < end; k += panel_depth) {
                    multiply_panel(panel, first_row, end_row, k, std::min(panel_depth, end - k));
                }
                item += blocks;
            }
        });
    }
}

/// y = or += x * right, whose panels `pack(panel, first, depth, out)` makes when they are needed.
template <class F, class B, class T, class Pack>
void multiply_packing(Context<B>& context, View<const T, 2> x, View<T, 2> y, Write write,
                      Pack&& pack) {
    const typename Arena<HostSpace>::Scope scope{context.arena()};
    multiply_panels<F>(context.backend(), left_factor<F>(context, x), x.columns(), y, write,
                       PanelOrder::made, [&](Index panel, Index first, Index depth) {
                           auto* const out = thread_scratch<typename F::Stored, 0>(
                               padded_depth<F>(depth) * panel_width<F>);
                           pack(panel, first, depth, out);
                           return out;
                       });
}

}  // namespace mor::cpu::detail
