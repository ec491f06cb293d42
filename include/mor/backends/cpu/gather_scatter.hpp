// SPDX-License-Identifier: Apache-2.0
//
// Row movement of the Cpu backend: rows are independent, so each loop is parallel over them.
#pragma once

#include <mor/backends/cpu/cache_lines.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/ops/gather_scatter.hpp>

#include <algorithm>

namespace mor {

namespace cpu::detail {

/// body(i, rows[i]) for each i, where body reads or writes row rows[i] of x. The processor fetches
/// rows that follow each other by itself, but not those after a row that is left out.
template <class T, class Factor, class U, class Body>
void for_each_row(const Context<Cpu<T, Factor>>& context, View<U, 2> x, View<const Index, 1> rows,
                  Body&& body) {
    constexpr Index fits_in_caches = 4'194'304 / static_cast<Index>(sizeof(T));
    constexpr Index ahead = 2;
    const bool fetches = x.size() > fits_in_caches;
    const Index grain = grain_rows(x.columns());
    context.backend().parallel_for(rows.size(), grain, [&](Index first, Index last) {
        for (Index i = first; i < last; ++i) {
            if (fetches && i + ahead < last) {
                fetch_columns<T>(x, rows[i + ahead], rows[i + ahead] + 1, 0, x.columns());
            }
            body(i, rows[i]);
        }
    });
}

}  // namespace cpu::detail

template <class T, class Factor>
struct Kernel<op::GatherRows, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const Index, 1> rows,
                    View<T, 2> out) {
        cpu::detail::for_each_row(context, x, rows, [&](Index i, Index row) {
            std::copy_n(x.row(row).data(), x.columns(), out.row(i).data());
        });
    }
};

template <class T, class Factor>
struct Kernel<op::GatherRowsWeighted, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const Index, 1> rows,
                    View<const T, 1> weight, View<T, 2> out) {
        using cpu::detail::array;
        cpu::detail::for_each_row(context, x, rows, [&](Index i, Index row) {
            array(out.row(i)) = weight[i] * array(x.row(row));
        });
    }
};

template <class T, class Factor>
struct Kernel<op::ScatterRows, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const Index, 1> rows,
                    View<T, 2> out) {
        cpu::detail::for_each_row(context, out, rows, [&](Index i, Index row) {
            std::copy_n(x.row(i).data(), x.columns(), out.row(row).data());
        });
    }
};

template <class T, class Factor>
struct Kernel<op::ScatterAddRows, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const Index, 1> rows,
                    View<T, 2> out) {
        using cpu::detail::array;
        cpu::detail::for_each_row(context, out, rows, [&](Index i, Index row) {
            array(out.row(row)) += array(x.row(i));
        });
    }
};

template <class T, class Factor>
struct Kernel<op::ScatterAddRowsWeighted, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> x, View<const Index, 1> rows,
                    View<const T, 1> weight, View<T, 2> out) {
        using cpu::detail::array;
        cpu::detail::for_each_row(context, out, rows, [&](Index i, Index row) {
            array(out.row(row)) += weight[i] * array(x.row(i));
        });
    }
};

template <class T, class Factor>
struct Kernel<op::RowDot, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> a, View<const Index, 1> rows,
                    View<const T, 2> b, View<T, 1> out) {
        using cpu::detail::array;
        cpu::detail::for_each_row(context, a, rows, [&](Index i, Index row) {
            out[i] = (array(a.row(row)) * array(b.row(i))).sum();
        });
    }
};

}  // namespace mor
