// SPDX-License-Identifier: Apache-2.0
//
// What a system is asked for when it shall multiply matrices: `system.product(a, b, c, write)`.
#pragma once

#include <mor/core/space.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>
#include <mor/ops/linear.hpp>

namespace mor::cuda {

/// How a product reads a matrix.
enum class Reading { as_stored, transposed };

/// One factor of a product: a row-major matrix and how it is read.
template <class T, MemorySpace Space>
struct Factor {
    View<const T, 2, Space> matrix;
    Reading reading = Reading::as_stored;

    /// Rows and columns of the factor as it is read.
    [[nodiscard]] constexpr Index rows() const {
        return reading == Reading::as_stored ? matrix.rows() : matrix.columns();
    }
    [[nodiscard]] constexpr Index columns() const {
        return reading == Reading::as_stored ? matrix.columns() : matrix.rows();
    }
};

// system.product(const Factor<T, Space>& a, const Factor<T, Space>& b, View<T, 2, Space> c,
//                Write write):
//   c = a b with Write::overwrite, c += a b with Write::accumulate.
// a [m, k] and b [k, n] as they are read, c [m, n], all row-major without gaps; c overlaps neither
// factor. Any of m, n and k may be 0: with k = 0, c becomes 0 or stays as it is. Numbers are
// multiplied in T, not rounded to a shorter type. What c holds before does not matter (it may be
// NaN) when it is overwritten. The call may return before c is there, as those of for_each may.
//
// In the three products of a linear layer, with x [rows, in], weight [out, in], y [rows, out]:
//   forward          y  (=, +=)  x as stored,      weight transposed
//   input gradient   dx (=, +=)  dy as stored,     weight as stored
//   weight gradient  dweight +=  dy transposed,    x as stored

}  // namespace mor::cuda
