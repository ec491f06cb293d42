// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Cpu backend. Their right factors are packed into panels: the weight of a
// forward product for many calls or, where there are many rows, for each.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/dot_products.hpp>
#include <mor/backends/cpu/packed_weight.hpp>
#include <mor/backends/cpu/panels.hpp>
#include <mor/ops/linear.hpp>

#include <algorithm>

namespace mor {

template <class T, class Factor>
struct Kernel<op::Linear, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;
    using F = cpu::detail::ProductFactors<T, Factor>;

    static void run(Context<B>& context, View<const T, 2> x, View<const T, 2> weight, View<T, 2> y,
                    Write write) {
        using namespace cpu::detail;
        if (weight.rows() < fewest_columns) {
            multiply_narrow(context.backend(), x, weight, y, write);
            return;
        }
        multiply_packing<F>(context, x, y, write,
                            [&](Index panel, Index first, Index depth, auto* out) {
                                pack_transposed<F>(weight, panel, first, depth, out);
                            });
    }

    /// The same with a weight that is packed already, to the bit.
    static void run(Context<B>& context, View<const T, 2> x, const typename B::PackedWeight& weight,
                    View<T, 2> y, Write write) {
        using namespace cpu::detail;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        multiply_panels<F>(context.backend(), left_factor<F>(context, x), x.columns(), y, write,
                           PanelOrder::in_memory, [&](Index panel, Index first, Index /*depth*/) {
                               return weight.panel(panel, first);
                           });
    }

private:
    static void multiply_narrow(const B& cpu, View<const T, 2> x, View<const T, 2> weight,
                                View<T, 2> y, Write write) {
        using namespace cpu::detail;
        cpu.parallel_for(x.rows(), grain_rows(x.columns()), [&](Index first, Index last) {
            const DotProduct<T> product{.x = x.row(first).data(),
                                        .w = weight.data(),
                                        .y = y.row(first).data(),
                                        .depth = x.columns(),
                                        .w_stride = x.columns(),
                                        .y_stride = y.columns(),
                                        .accumulate = write == Write::accumulate};
            product.run(last - first, 0, weight.rows());
        });
    }
};

template <class T, class Factor>
struct Kernel<op::LinearBackwardInput, Cpu<T, Factor>> {
    using F = cpu::detail::ProductFactors<T, Factor>;

    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> dy, View<const T, 2> weight,
                    View<T, 2> dx, Write write) {
        using namespace cpu::detail;
        multiply_packing<F>(context, dy, dx, write,
                            [&](Index panel, Index first, Index depth, auto* out) {
                                pack_columns<F>(weight, panel, first, depth, out);
                            });
    }
};

/// The sum is over rows. x becomes panels once; dy is transposed block by block.
template <class T, class Factor>
struct Kernel<op::LinearBackwardWeight, Cpu<T, Factor>> {
    using B = Cpu<T, Factor>;
    using F = cpu::detail::ProductFactors<T, Factor>;
    using Stored = typename F::Stored;

    static void run(Context<B>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        for (Index first = 0; first < x.rows(); first += cpu::detail::panel_depth) {
            const Index depth = std::min(cpu::detail::panel_depth, x.rows() - first);
            add(context, dy.slice(first, depth), x.slice(first, depth), dweight);
        }
    }

private:
    static void add(Context<B>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        using namespace cpu::detail;
        constexpr Index block_rows = 4 * tile_rows;  // of dweight
        const B& cpu = context.backend();
        const Index depth = padded_depth<F>(x.rows());
        const Index panels = num_panels<F>(x.columns());
        const Index panel_size = depth * panel_width<F>;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        Stored* const packed =
            context.arena().template make<Stored, 1>({panels * panel_size}).data();
        cpu.parallel_for(panels, 1, [&](Index panel, Index last) {
            for (; panel < last; ++panel) {
                pack_columns<F>(x, panel, 0, x.rows(), packed + panel * panel_size);
            }
        });
        const Index blocks = (dweight.rows() + block_rows - 1) / block_rows;
        cpu.parallel_for(blocks, 1, [&](Index block, Index last) {
            const LeftFactor<Stored> left{thread_scratch<Stored, 1>(block_rows * depth), depth};
            for (; block < last; ++block) {
                const Index first = block * block_rows;
                const Index rows = std::min(block_rows, dweight.rows() - first);
                pack_left_transposed<F>(dy, first, rows, left);
                for (Index panel = 0; panel < panels; ++panel) {
                    // Short pieces of many rows: what the next block packs comes out of memory
                    // meanwhile.
                    fetch_columns(dy, dy.rows() * panel / panels, dy.rows() * (panel + 1) / panels,
                                  first + block_rows, block_rows);
                    const Index column = panel * panel_width<F>;
                    const Stored* const right = packed + panel * panel_size;
                    for (Index row = 0; row < rows; row += tile_rows) {
                        // What is added to, while the sums are made.
                        fetch_columns<const T>(dweight, first + row,
                                               first + std::min(row + tile_rows, rows), column,
                                               panel_width<F>);
                        multiply_rows<F>(std::min(tile_rows, rows - row), left.at(row, 0), right,
                                         {right}, depth, dweight.row(first + row).data() + column,
                                         dweight.columns(),
                                         std::min(panel_width<F>, dweight.columns() - column),
                                         Write::accumulate);
                    }
                }
            }
        });
    }
};

}  // namespace mor
