// SPDX-License-Identifier: Apache-2.0
//
// Matrix products over panels. A panel holds a few packets of columns of the right factor, depth by
// depth, so that a tile of rows and columns stays in registers and each value of the left factor
// meets whole packets. An element of a product is one chain of fused multiply-adds in the order of
// the depth, cut at fixed places, whatever tile, panel or thread it is in: see
// docs/design/0006-batch-invariance.md.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/packets.hpp>
#include <mor/core/tensor.hpp>
#include <mor/ops/linear.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace mor::cpu::detail {

inline constexpr Index panel_packets = num_registers >= 32 ? 3 : 2;
inline constexpr Index tile_rows = num_registers >= 32 ? 8 : 6;
template <class T>
inline constexpr Index panel_width = panel_packets * packet_size<T>;
/// Of this depth a panel fits into a second-level cache. Longer sums are cut, at multiples of it.
inline constexpr Index panel_depth = 2'048;

template <class T>
inline constexpr Index line_elements = 64 / static_cast<Index>(sizeof(T));

inline void prefetch_line(const void* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address, 0, 2);
#else
    static_cast<void>(address);
#endif
}

/// Left factor: element (row, depth) is data[row * row_stride + depth].
template <class T>
struct LeftFactor {
    const T* data;
    Index row_stride;
};

/// out [R, columns] = or += left [R, depth] * panel [depth, panel_width]. For each depth a cache
/// line from `ahead` on is fetched into the second-level cache.
template <Index R, class T>
void multiply_tile(LeftFactor<T> left, const T* panel, const T* ahead, Index depth, T* out,
                   Index out_stride, Index columns, Write write) {
    using namespace Eigen::internal;
    using Row = std::array<Lanes<T>, static_cast<std::size_t>(panel_packets)>;
    std::array<Row, static_cast<std::size_t>(R)> sums;
    for (Row& row : sums) {
        row.fill({pset1<Packet<T>>(T{0})});
    }
    for (Index k = 0; k < depth; ++k) {
        prefetch_line(ahead + k * line_elements<T>);
        Row right;
        for (std::size_t v = 0; v < right.size(); ++v) {
            right[v].packet = pload<Packet<T>>(panel + k * panel_width<T> +
                                               static_cast<Index>(v) * packet_size<T>);
        }
        for (std::size_t r = 0; r < sums.size(); ++r) {
            const auto value =
                pset1<Packet<T>>(left.data[static_cast<Index>(r) * left.row_stride + k]);
            for (std::size_t v = 0; v < right.size(); ++v) {
                sums[r][v].packet = pmadd(value, right[v].packet, sums[r][v].packet);
            }
        }
    }
    alignas(64) std::array<T, static_cast<std::size_t>(panel_width<T>)> line;
    for (std::size_t r = 0; r < sums.size(); ++r) {
        T* const own = out + static_cast<Index>(r) * out_stride;
        for (std::size_t v = 0; v < sums[r].size(); ++v) {
            const Index column = static_cast<Index>(v) * packet_size<T>;
            const auto sum = sums[r][v].packet;
            if (columns < panel_width<T>) {
                pstoreu(line.data() + column, sum);
            } else if (write == Write::overwrite) {
                pstoreu(own + column, sum);
            } else {
                pstoreu(own + column, padd(ploadu<Packet<T>>(own + column), sum));
            }
        }
        for (Index c = 0; c < columns && columns < panel_width<T>; ++c) {
            const T sum = line[static_cast<std::size_t>(c)];
            own[c] = write == Write::overwrite ? sum : own[c] + sum;
        }
    }
}

/// The same for `rows` rows, at most tile_rows.
template <class T, Index R = tile_rows>
void multiply_rows(Index rows, LeftFactor<T> left, const T* panel, const T* ahead, Index depth,
                   T* out, Index out_stride, Index columns, Write write) {
    if (rows == R) {
        multiply_tile<R, T>(left, panel, ahead, depth, out, out_stride, columns, write);
    } else if constexpr (R > 1) {
        multiply_rows<T, R - 1>(rows, left, panel, ahead, depth, out, out_stride, columns, write);
    }
}

/// Memory of this thread, for one panel or one block of a left factor; kept for its next.
template <class T, int slot>
[[nodiscard]] T* thread_scratch(Index size) {
    thread_local Tensor<T, 1> memory;
    if (memory.size() < size) {
        memory = Tensor<T, 1>{{size}};
    }
    return memory.view().data();
}

/// Panel number `panel` of a right factor given as its transpose, [columns, depth]: depths
/// [first, first + depth) into [depth, panel_width]. Columns past the last are zero.
template <class T>
void pack_transposed(View<const T, 2> transpose, Index panel, Index first, Index depth, T* out) {
    using namespace Eigen::internal;
    constexpr Index size = packet_size<T>;
    const Index column = panel * panel_width<T>;
    const Index columns = std::min(panel_width<T>, transpose.rows() - column);
    const T* const from = transpose.data() + column * transpose.columns() + first;
    const Index whole = depth - depth % size;
    for (Index c = 0; c < panel_width<T>; c += size) {
        Index k = 0;
        for (; c + size <= columns && k < whole; k += size) {
            PacketSquare<T> block;
            for (Index i = 0; i < size; ++i) {
                block[i] = ploadu<Packet<T>>(from + (c + i) * transpose.columns() + k);
            }
            block.transpose();
            for (Index i = 0; i < size; ++i) {
                pstore(out + (k + i) * panel_width<T> + c, block[i]);
            }
        }
        for (; k < depth; ++k) {
            for (Index i = c; i < c + size; ++i) {
                out[k * panel_width<T> + i] =
                    i < columns ? from[i * transpose.columns() + k] : T{0};
            }
        }
    }
}

/// The same of a right factor [depth, columns].
template <class T>
void pack_columns(View<const T, 2> right, Index panel, Index first, Index depth, T* out) {
    const Index column = panel * panel_width<T>;
    const Index columns = std::min(panel_width<T>, right.columns() - column);
    for (Index k = 0; k < depth; ++k) {
        T* const line = out + k * panel_width<T>;
        std::copy_n(right.row(first + k).data() + column, columns, line);
        std::fill(line + columns, line + panel_width<T>, T{0});
    }
}

/// The number of panels of so many columns.
template <class T>
[[nodiscard]] constexpr Index num_panels(Index columns) {
    return (columns + panel_width<T> - 1) / panel_width<T>;
}

/// Whether panels follow each other in memory, or are made when they are asked for.
enum class PanelOrder { in_memory, made };

/// y [rows, columns] = or += left [rows, depth] * right, whose panels `panel_of(panel, first,
/// depth)` gives, each depth by depth from `first` on. Threads take panels, and rows if there are
/// few of those.
template <class T, class PanelOf>
void multiply_panels(const Cpu<T>& cpu, LeftFactor<T> left, Index depth, View<T, 2> y, Write write,
                     PanelOrder order, PanelOf&& panel_of) {
    constexpr Index block_rows = 8 * tile_rows;
    constexpr Index multiplications_per_piece = 65'536;
    const Index row_blocks = (y.rows() + block_rows - 1) / block_rows;
    const Index items = num_panels<T>(y.columns()) * row_blocks;
    const Index item_work =
        std::max<Index>(1, std::min(block_rows, y.rows()) * panel_width<T> * depth);
    const Index grain = std::max<Index>(1, multiplications_per_piece / item_work);
    cpu.parallel_for(items, grain, [&](Index item, Index last) {
        while (item < last) {
            const Index panel = item / row_blocks;
            const Index first_block = item % row_blocks;
            const Index blocks = std::min(row_blocks - first_block, last - item);
            const Index first_row = first_block * block_rows;
            const Index end_row = std::min(y.rows(), (first_block + blocks) * block_rows);
            const Index column = panel * panel_width<T>;
            const Index columns = std::min(panel_width<T>, y.columns() - column);
            for (Index k = 0; k < depth || k == 0; k += panel_depth) {
                const Index length = std::min(panel_depth, depth - k);
                const T* const packed = panel_of(panel, k, length);
                for (Index row = first_row; row < end_row; row += tile_rows) {
                    // While the tiles of a panel are at work, the next panel comes out of memory,
                    // a piece with each.
                    const Index piece = line_elements<T> * (row - first_row) / tile_rows;
                    const bool fetches = order == PanelOrder::in_memory && piece < panel_width<T>;
                    const T* const ahead =
                        packed + (fetches ? (panel_width<T> + piece) * length : 0);
                    multiply_rows(
                        std::min(tile_rows, end_row - row),
                        LeftFactor<T>{left.data + row * left.row_stride + k, left.row_stride},
                        packed, ahead, length, y.data() + row * y.columns() + column, y.columns(),
                        columns, k == 0 ? write : Write::accumulate);
                }
            }
            item += blocks;
        }
    });
}

}  // namespace mor::cpu::detail
