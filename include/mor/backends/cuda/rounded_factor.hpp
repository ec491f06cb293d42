// SPDX-License-Identifier: Apache-2.0
//
// Matrices that are rounded to BFloat16 before they are multiplied.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/system.hpp>
#include <mor/core/bfloat16.hpp>

namespace mor::cuda {

/// Elements from row to row of a rounded matrix: rows begin where a thread can load as much at once
/// as it likes, whatever their length.
[[nodiscard]] constexpr Index rounded_pitch(Index columns) {
    constexpr Index row_grain = 8;
    return (columns + row_grain - 1) / row_grain * row_grain;
}

/// One factor of a product, as Factor, whose elements are rounded already.
template <MemorySpace Space>
struct RoundedFactor {
    View<const BFloat16, 2, Space> rows;  // as stored, [rows, rounded_pitch(columns)]
    Index columns = 0;
    Reading reading = Reading::as_stored;
};

namespace detail {

/// Writes element i of [rows, pitch] of a matrix of floats [rows, columns]: rounded, with zeros
/// between the rows.
struct RoundRows {
    const float* from;
    BFloat16* to;
    Index columns;
    Index pitch;

    MOR_HOST_DEVICE void operator()(Index i) const {
        const Index column = i % pitch;
        const bool is_between = column >= columns;
        to[i] = is_between ? BFloat16{} : to_bfloat16(from[i / pitch * columns + column]);
    }
};

}  // namespace detail

/// Rounds the elements of a matrix to the nearest BFloat16. to [rows, rounded_pitch(columns)].
template <System S>
void round_rows(const S& system, View<const float, 2, typename S::Space> from,
                View<BFloat16, 2, typename S::Space> to) {
    system.for_each(to.size(),
                    detail::RoundRows{from.data(), to.data(), from.columns(), to.columns()});
}

}  // namespace mor::cuda
