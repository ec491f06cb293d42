// SPDX-License-Identifier: Apache-2.0
//
// What comes out of memory before it is needed.
#pragma once

#include <mor/core/tensor.hpp>
#include <mor/core/types.hpp>

#include <algorithm>

namespace mor::cpu::detail {

template <class T>
inline constexpr Index line_elements = 64 / static_cast<Index>(sizeof(T));

/// Asks for a line into the second-level cache; any address will do.
inline void prefetch_line(const void* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address, 0, 2);
#else
    static_cast<void>(address);
#endif
}

/// Asks for columns [column, column + count), as far as there are any, of rows [first, last).
template <class T>
void fetch_columns(View<const T, 2> x, Index first, Index last, Index column, Index count) {
    const Index end = std::min(column + count, x.columns());
    for (Index row = first; row < last; ++row) {
        const T* const own = x.row(row).data();
        for (Index c = column; c < end; c += line_elements<T>) {
            prefetch_line(own + c);
        }
    }
}

/// Reads columns [first, last) of the rows [row, row + rows), a line at a time, in the order of
/// memory. It takes as long as reading memory does, while a kernel that reads a few lines here and
/// there waits for each.
template <class T>
void bring_into_cache(View<const T, 2> x, Index row, Index rows, Index first, Index last) {
    for (Index i = row; i < row + rows; ++i) {
        const T* const own = x.row(i).data();
        for (Index c = first; c < last; c += line_elements<T>) {
            static_cast<void>(*static_cast<const volatile T*>(own + c));
        }
    }
}

}  // namespace mor::cpu::detail
