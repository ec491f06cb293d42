// SPDX-License-Identifier: Apache-2.0
//
// y = x w^T as dot products of rows. Each element is one chain of fused multiply-adds over packets,
// so that it does not depend on how many rows there are or which of them it is in: what is served
// in a batch is what would have been served alone. See docs/design/0006-batch-invariance.md.
#pragma once

#include <mor/backends/cpu/packets.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace mor::cpu::detail {

/// Rows of x that share what was loaded of w.
inline constexpr Index dot_rows = 4;

/// Rows of w beside `rows` rows of x, so that all sums stay in registers.
[[nodiscard]] constexpr Index dot_columns(Index rows) {
    return std::clamp<Index>((num_registers - dot_rows) / rows, 1, 8);
}

/// One product y = x w^T: x [rows, depth] without gaps, w [columns, depth] and y [rows, columns]
/// blocks of matrices.
template <class T>
struct DotProduct {
    const T* x;
    const T* w;
    T* y;
    Index depth;
    Index w_stride;
    Index y_stride;
    bool accumulate;

    /// The elements [row, row + R) x [column, column + C).
    template <Index R, Index C>
    void tile(Index row, Index column) const {
        using namespace Eigen::internal;
        std::array<Lanes<T>, static_cast<std::size_t>(R * C)> sums;
        sums.fill({pset1<Packet<T>>(T{0})});
        const T* const left = x + row * depth;
        const T* const right = w + column * w_stride;
        const Index whole = depth - depth % packet_size<T>;
        for (Index k = 0; k < whole; k += packet_size<T>) {
            std::array<Lanes<T>, static_cast<std::size_t>(C)> weights;
            for (Index c = 0; c < C; ++c) {
                weights[static_cast<std::size_t>(c)].packet =
                    ploadu<Packet<T>>(right + c * w_stride + k);
            }
            for (Index r = 0; r < R; ++r) {
                const auto values = ploadu<Packet<T>>(left + r * depth + k);
                for (Index c = 0; c < C; ++c) {
                    auto& sum = sums[static_cast<std::size_t>(r * C + c)].packet;
                    sum = pmadd(values, weights[static_cast<std::size_t>(c)].packet, sum);
                }
            }
        }
        for (Index r = 0; r < R; ++r) {
            for (Index c = 0; c < C; ++c) {
                T sum = predux(sums[static_cast<std::size_t>(r * C + c)].packet);
                for (Index k = whole; k < depth; ++k) {
                    sum = std::fma(left[r * depth + k], right[c * w_stride + k], sum);
                }
                T& out = y[(row + r) * y_stride + column + c];
                out = accumulate ? out + sum : sum;
            }
        }
    }

    /// R rows from `row` on, all columns in [first, last).
    template <Index R>
    void rows(Index row, Index first, Index last) const {
        constexpr Index wide = dot_columns(R);
        Index column = first;
        for (; column + wide <= last; column += wide) {
            tile<R, wide>(row, column);
        }
        for (; column < last; ++column) {
            tile<R, 1>(row, column);
        }
    }

    /// All rows in [0, num_rows), columns in [first, last), in panels of w that stay in the cache.
    void run(Index num_rows, Index first, Index last) const {
        constexpr Index panel_bytes = 262'144;
        const Index line = std::max<Index>(1, depth * static_cast<Index>(sizeof(T)));
        const Index width = std::max<Index>(24, panel_bytes / line / 24 * 24);
        for (Index begin = first; begin < last; begin += width) {
            const Index end = std::min(last, begin + width);
            Index row = 0;
            for (; row + dot_rows <= num_rows; row += dot_rows) {
                rows<dot_rows>(row, begin, end);
            }
            switch (num_rows - row) {
                case 3:
                    rows<3>(row, begin, end);
                    break;
                case 2:
                    rows<2>(row, begin, end);
                    break;
                case 1:
                    rows<1>(row, begin, end);
                    break;
                default:
                    break;
            }
        }
    }
};

/// The sum of a[i] * b[i], i in [0, count), in the same order wherever a and b are.
template <class T>
[[nodiscard]] T dot(const T* a, const T* b, Index count) {
    T result{};
    const DotProduct<T> product{.x = a,
                                .w = b,
                                .y = &result,
                                .depth = count,
                                .w_stride = count,
                                .y_stride = 1,
                                .accumulate = false};
    product.template tile<1, 1>(0, 0);
    return result;
}

}  // namespace mor::cpu::detail
