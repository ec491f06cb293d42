// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Cpu backend, one block of the output a thread: forward by dot products,
// which do not depend on the batch; backward by Eigen.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/dot_products.hpp>
#include <mor/ops/linear.hpp>

namespace mor {

namespace cpu::detail {

/// Calls product(first_row, rows, first_column, columns) for blocks that cover an output of the
/// given size, split along its longer side. `depth` is the length of the dot products.
template <class T, class Product>
void for_output_blocks(const Cpu<T>& cpu, Index rows, Index columns, Index depth,
                       Product&& product) {
    constexpr Index multiplications_per_piece = 65'536;
    const bool split_rows = rows >= columns;
    const Index length = split_rows ? rows : columns;
    const Index width = split_rows ? columns : rows;
    const Index work_per_line = std::max<Index>(1, width * depth);
    const Index grain = std::max<Index>(8, multiplications_per_piece / work_per_line);
    cpu.parallel_for(length, grain, [&](Index first, Index last) {
        if (split_rows) {
            product(first, last - first, Index{0}, columns);
        } else {
            product(Index{0}, rows, first, last - first);
        }
    });
}

template <class Destination, class Product>
void assign(Destination&& destination, const Product& product, Write write) {
    if (write == Write::accumulate) {
        destination.noalias() += product;
    } else {
        destination.noalias() = product;
    }
}

}  // namespace cpu::detail

template <class T>
struct Kernel<op::Linear, Cpu<T>> {
    static void run(Context<Cpu<T>>& context, View<const T, 2> x, View<const T, 2> weight,
                    View<T, 2> y, Write write) {
        using namespace cpu::detail;
        for_output_blocks(context.backend(), y.rows(), y.columns(), x.columns(),
                          [&](Index row, Index rows, Index column, Index columns) {
                              const DotProduct<T> product{.x = x.slice(row, rows).data(),
                                                          .w = weight.data(),
                                                          .y = y.slice(row, rows).data(),
                                                          .depth = x.columns(),
                                                          .w_stride = x.columns(),
                                                          .y_stride = y.columns(),
                                                          .accumulate = write == Write::accumulate};
                              product.run(rows, column, column + columns);
                          });
    }
};

template <class T>
struct Kernel<op::LinearBackwardInput, Cpu<T>> {
    static void run(Context<Cpu<T>>& context, View<const T, 2> dy, View<const T, 2> weight,
                    View<T, 2> dx, Write write) {
        using namespace cpu::detail;
        for_output_blocks(
            context.backend(), dx.rows(), dx.columns(), dy.columns(),
            [&](Index row, Index rows, Index column, Index columns) {
                assign(block(dx, row, rows, column, columns),
                       map(dy.slice(row, rows)) * block(weight, 0, weight.rows(), column, columns),
                       write);
            });
    }
};

template <class T>
struct Kernel<op::LinearBackwardWeight, Cpu<T>> {
    static void run(Context<Cpu<T>>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        using namespace cpu::detail;
        if (x.rows() == 0) {
            return;
        }
        for_output_blocks(context.backend(), dweight.rows(), dweight.columns(), x.rows(),
                          [&](Index row, Index rows, Index column, Index columns) {
                              block(dweight, row, rows, column, columns).noalias() +=
                                  block(dy, 0, dy.rows(), row, rows).transpose() *
                                  block(x, 0, x.rows(), column, columns);
                          });
    }
};

}  // namespace mor
