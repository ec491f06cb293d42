// SPDX-License-Identifier: Apache-2.0
//
// Matrix products of the Cpu backend. Their right factors are packed into panels: the weight of a
// forward product for many calls or, where there are many rows, for each.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/packed_weight.hpp>
#include <mor/backends/cpu/panels.hpp>
#include <mor/ops/linear.hpp>

#include <algorithm>

namespace mor {

template <class T>
struct Kernel<op::Linear, Cpu<T>> {
    using Packed = cpu::PackedWeight<T>;

    static void run(Context<Cpu<T>>& context, View<const T, 2> x, View<const T, 2> weight,
                    View<T, 2> y, Write write) {
        using namespace cpu::detail;
        multiply_panels(context.backend(), left_of(x), x.columns(), y, write, PanelOrder::made,
                        [&](Index panel, Index first, Index depth) {
                            T* const out = thread_scratch<T, 0>(depth * panel_width<T>);
                            pack_transposed(weight, panel, first, depth, out);
                            return out;
                        });
    }

    /// The same with a weight that is packed already, to the bit.
    static void run(Context<Cpu<T>>& context, View<const T, 2> x, const Packed& weight,
                    View<T, 2> y, Write write) {
        cpu::detail::multiply_panels(
            context.backend(), left_of(x), x.columns(), y, write,
            cpu::detail::PanelOrder::in_memory,
            [&](Index panel, Index first, Index /*depth*/) { return weight.panel(panel, first); });
    }

private:
    static cpu::detail::LeftFactor<T> left_of(View<const T, 2> x) {
        return {x.data(), x.columns()};
    }
};

template <class T>
struct Kernel<op::LinearBackwardInput, Cpu<T>> {
    static void run(Context<Cpu<T>>& context, View<const T, 2> dy, View<const T, 2> weight,
                    View<T, 2> dx, Write write) {
        using namespace cpu::detail;
        multiply_panels(context.backend(), LeftFactor<T>{dy.data(), dy.columns()}, dy.columns(), dx,
                        write, PanelOrder::made, [&](Index panel, Index first, Index depth) {
                            T* const out = thread_scratch<T, 0>(depth * panel_width<T>);
                            pack_columns(weight, panel, first, depth, out);
                            return out;
                        });
    }
};

/// The sum is over rows. x becomes panels once; dy is transposed block by block.
template <class T>
struct Kernel<op::LinearBackwardWeight, Cpu<T>> {
    static void run(Context<Cpu<T>>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        for (Index first = 0; first < x.rows(); first += cpu::detail::panel_depth) {
            const Index depth = std::min(cpu::detail::panel_depth, x.rows() - first);
            add(context, dy.slice(first, depth), x.slice(first, depth), dweight);
        }
    }

private:
    static void add(Context<Cpu<T>>& context, View<const T, 2> dy, View<const T, 2> x,
                    View<T, 2> dweight) {
        using namespace cpu::detail;
        constexpr Index block_rows = 4 * tile_rows;  // of dweight
        const Cpu<T>& cpu = context.backend();
        const Index depth = x.rows();
        const Index panels = num_panels<T>(x.columns());
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const View<T, 1> packed =
            context.arena().template make<T, 1>({panels * depth * panel_width<T>});
        cpu.parallel_for(panels, 1, [&](Index panel, Index last) {
            for (; panel < last; ++panel) {
                pack_columns(x, panel, 0, depth, packed.data() + panel * depth * panel_width<T>);
            }
        });
        const Index blocks = (dweight.rows() + block_rows - 1) / block_rows;
        cpu.parallel_for(blocks, 1, [&](Index block, Index last) {
            T* const transposed = thread_scratch<T, 1>(block_rows * depth);
            for (; block < last; ++block) {
                const Index first = block * block_rows;
                const Index rows = std::min(block_rows, dweight.rows() - first);
                for (Index k = 0; k < depth; ++k) {
                    for (Index r = 0; r < rows; ++r) {
                        transposed[r * depth + k] = dy(k, first + r);
                    }
                }
                for (Index panel = 0; panel < panels; ++panel) {
                    const Index column = panel * panel_width<T>;
                    for (Index row = 0; row < rows; row += tile_rows) {
                        multiply_rows(std::min(tile_rows, rows - row),
                                      LeftFactor<T>{transposed + row * depth, depth},
                                      packed.data() + panel * depth * panel_width<T>,
                                      packed.data() + panel * depth * panel_width<T>, depth,
                                      dweight.row(first + row).data() + column, dweight.columns(),
                                      std::min(panel_width<T>, dweight.columns() - column),
                                      Write::accumulate);
                    }
                }
            }
        });
    }
};

}  // namespace mor
