// SPDX-License-Identifier: Apache-2.0
//
// How the factors of a product come to lie as its inner loop reads them. A panel holds a few
// packets of columns of the right factor, depth by depth; a left factor lies row by row.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/factors.hpp>
#include <mor/core/tensor.hpp>

#include <algorithm>
#include <array>
#include <type_traits>

namespace mor::cpu::detail {

template <class F>
inline constexpr Index panel_width = F::packets * packet_size<typename F::Sum>;

/// The number of panels of so many columns.
template <class F>
[[nodiscard]] constexpr Index num_panels(Index columns) {
    return (columns + panel_width<F> - 1) / panel_width<F>;
}

/// A depth filled up with zeros, so that it holds whole groups.
template <class F>
[[nodiscard]] constexpr Index padded_depth(Index depth) {
    return (depth + F::group - 1) / F::group * F::group;
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

/// Transposes the square block at `from`, whose rows are `stride` apart, into `out`.
template <class T>
void transpose_square(const T* from, Index stride, T* out, Index out_stride) {
    using namespace Eigen::internal;
    PacketSquare<T> block;
    for (Index i = 0; i < packet_size<T>; ++i) {
        block[i] = ploadu<Packet<T>>(from + i * stride);
    }
    block.transpose();
    for (Index i = 0; i < packet_size<T>; ++i) {
        pstoreu(out + i * out_stride, block[i]);
    }
}

/// Panel number `panel` of a right factor given as its transpose, [num_columns, depth], whose rows
/// are `stride` apart: into [depth, panel_width], a depth filled up. Columns past the last are
/// zero.
template <class F, class T = typename F::Sum>
void pack_transposed(const T* transpose, Index stride, Index num_columns, Index panel, Index depth,
                     typename F::Stored* out) {
    constexpr Index size = packet_size<T>;
    constexpr Index width = panel_width<F>;
    const Index column = panel * width;
    const Index columns = std::min(width, num_columns - column);
    const T* const from = transpose + column * stride;
    const Index whole = size % F::group == 0 ? depth - depth % size : 0;
    alignas(64) std::array<T, static_cast<std::size_t>(size * std::max(size, F::group))> square;
    for (Index c = 0; c < width; c += size) {
        Index k = 0;
        for (; c + size <= columns && k < whole; k += size) {
            if constexpr (std::is_same_v<typename F::Stored, T>) {
                transpose_square(from + c * stride + k, stride, out + k * width + c, width);
            } else {
                transpose_square(from + c * stride + k, stride, square.data(), size);
                for (Index i = 0; i < size; i += F::group) {
                    F::store(square.data() + i * size, size, size,
                             out + (k + i) * width + c * F::group);
                }
            }
        }
        for (; k < depth; k += F::group) {
            square.fill(T{0});
            for (Index g = 0; g < std::min(F::group, depth - k); ++g) {
                for (Index i = c; i < std::min(c + size, columns); ++i) {
                    square[static_cast<std::size_t>(g * size + i - c)] = from[i * stride + k + g];
                }
            }
            F::store(square.data(), size, size, out + k * width + c * F::group);
        }
    }
}

/// The same of depths [first, first + depth) of a matrix.
template <class F, class T = typename F::Sum>
void pack_transposed(View<const T, 2> transpose, Index panel, Index first, Index depth,
                     typename F::Stored* out) {
    pack_transposed<F>(transpose.data() + first, transpose.columns(), transpose.rows(), panel,
                       depth, out);
}

/// The same of columns [column, column + columns) of a right factor [depth, ...] whose rows are
/// `stride` apart.
template <class F, class T = typename F::Sum>
void pack_columns(const T* right, Index stride, Index columns, Index depth,
                  typename F::Stored* out) {
    constexpr Index width = panel_width<F>;
    alignas(64) std::array<T, static_cast<std::size_t>(F::group * width)> filled{};
    for (Index k = 0; k < depth; k += F::group) {
        if (columns == width && k + F::group <= depth) {
            F::store(right + k * stride, stride, width, out + k * width);
            continue;
        }
        filled.fill(T{0});
        for (Index g = 0; g < std::min(F::group, depth - k); ++g) {
            std::copy_n(right + (k + g) * stride, columns, filled.data() + g * width);
        }
        F::store(filled.data(), width, width, out + k * width);
    }
}
template <class F, class T = typename F::Sum>
void pack_columns(View<const T, 2> right, Index panel, Index first, Index depth,
                  typename F::Stored* out) {
    const Index column = panel * panel_width<F>;
    pack_columns<F>(right.row(first).data() + column, right.columns(),
                    std::min(panel_width<F>, right.columns() - column), depth, out);
}

/// Left factor: element (row, depth) is data[row * row_stride + depth]; a depth is filled up.
template <class Stored>
struct LeftFactor {
    Stored* data;
    Index row_stride;

    operator LeftFactor<const Stored>() const  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<Stored>)
    {
        return {data, row_stride};
    }
    [[nodiscard]] LeftFactor at(Index row, Index depth) const {
        return {data + row * row_stride + depth, row_stride};
    }
};

/// One row of a left factor.
template <class F, class T = typename F::Sum>
void pack_row(const T* row, Index depth, typename F::Stored* out) {
    std::transform(row, row + depth, out, F::round);
    std::fill(out + depth, out + padded_depth<F>(depth), typename F::Stored{});
}

/// x [rows, depth] as a left factor: itself, or rounded into the arena.
template <class F, class B, class T = typename F::Sum>
[[nodiscard]] LeftFactor<const typename F::Stored> left_factor(Context<B>& context,
                                                               View<const T, 2> x) {
    using Stored = typename F::Stored;
    if constexpr (std::is_same_v<Stored, T>) {
        static_cast<void>(context);
        return {x.data(), x.columns()};
    } else {
        const Index stride = padded_depth<F>(x.columns());
        Stored* const out = context.arena().template make<Stored, 1>({x.rows() * stride}).data();
        context.backend().parallel_for(x.rows(), grain_rows(stride), [&](Index row, Index last) {
            for (; row < last; ++row) {
                pack_row<F>(x.row(row).data(), x.columns(), out + row * stride);
            }
        });
        return {out, stride};
    }
}

/// Columns [first, first + count) of x [depth, ...] as rows of a left factor.
template <class F, class T = typename F::Sum>
void pack_left_transposed(View<const T, 2> x, Index first, Index count,
                          LeftFactor<typename F::Stored> out) {
    constexpr Index size = packet_size<T>;
    const Index depth = x.rows();
    const Index whole_rows = count - count % size;
    const Index whole_depth = depth - depth % size;
    const T* const from = x.data() + first;
    alignas(64) std::array<T, static_cast<std::size_t>(size * size)> square;
    for (Index row = 0; row < whole_rows; row += size) {
        for (Index k = 0; k < whole_depth; k += size) {
            transpose_square(from + k * x.columns() + row, x.columns(), square.data(), size);
            for (Index i = 0; i < size; ++i) {
                std::transform(square.data() + i * size, square.data() + (i + 1) * size,
                               out.at(row + i, k).data, F::round);
            }
        }
    }
    for (Index row = 0; row < count; ++row) {
        for (Index k = row < whole_rows ? whole_depth : 0; k < depth; ++k) {
            *out.at(row, k).data = F::round(from[k * x.columns() + row]);
        }
        std::fill(out.at(row, depth).data, out.at(row, padded_depth<F>(depth)).data,
                  typename F::Stored{});
    }
}

}  // namespace mor::cpu::detail
