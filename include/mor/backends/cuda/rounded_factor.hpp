// SPDX-License-Identifier: Apache-2.0
//
// Matrices that are rounded to BFloat16 before they are multiplied.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/system.hpp>
#include <mor/core/bfloat16.hpp>

#include <concepts>

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
    View<const BFloat16, 2, Space> matrix;  // as stored, with what is between its rows
    Index stored_columns = 0;               // of them, those that are not between
    Reading reading = Reading::as_stored;

    /// Columns of the factor as it is read.
    [[nodiscard]] constexpr Index columns() const {
        return reading == Reading::as_stored ? stored_columns : matrix.rows();
    }
};

/// A number as a matrix of type `To` holds it: itself, or rounded to the nearest.
template <class To, class From>
[[nodiscard]] MOR_HOST_DEVICE constexpr To rounded_to(From value) {
    if constexpr (std::same_as<To, BFloat16>) {
        return to_bfloat16(value);
    } else {
        return value;
    }
}
/// The same number in the type that kernels compute in.
[[nodiscard]] MOR_HOST_DEVICE constexpr float widened(BFloat16 value) { return to_float(value); }
template <std::floating_point T>
[[nodiscard]] MOR_HOST_DEVICE constexpr T widened(T value) {
    return value;
}

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

/// Rounds the elements of a matrix to the nearest BFloat16. to [rows, columns], or more columns,
/// which become 0.
template <System S>
void round_rows(const S& system, View<const float, 2, typename S::Space> from,
                View<BFloat16, 2, typename S::Space> to) {
    system.for_each(to.size(),
                    detail::RoundRows{from.data(), to.data(), from.columns(), to.columns()});
}

}  // namespace mor::cuda
