// SPDX-License-Identifier: Apache-2.0
//
// A weight [out, in] as the panels that the forward product reads, packed once for many calls.
#pragma once

#include <mor/backends/cpu/panels.hpp>
#include <mor/core/tensor.hpp>

namespace mor::cpu {

namespace detail {

template <class T, class Factor>
using ProductFactors = FactorsOf<T, Factor, panel_packets>;

/// Products with fewer columns, of routers for instance, would leave most of a panel empty; they
/// are dot products of rows, whose factors are not rounded.
inline constexpr Index fewest_columns = 8;

}  // namespace detail

template <class T, class Factor>
class PackedWeight {
    using Factors = detail::ProductFactors<T, Factor>;
    using Stored = typename Factors::Stored;

public:
    /// With many rows, packing the weight anew in each call costs little.
    [[nodiscard]] static constexpr bool pays(Index rows, Index outputs) {
        constexpr Index most_rows = 128;
        return rows <= most_rows && outputs >= detail::fewest_columns;
    }

    /// Takes memory only for a weight of another size than before.
    void pack(const Cpu<T, Factor>& cpu, View<const T, 2> weight) {
        const Index num_panels = detail::num_panels<Factors>(weight.rows());
        panel_size_ =
            detail::padded_depth<Factors>(weight.columns()) * detail::panel_width<Factors>;
        if (panels_.size() != num_panels * panel_size_) {
            panels_ = Tensor<Stored, 1>{{num_panels * panel_size_}};
        }
        Stored* const out = panels_.view().data();
        cpu.parallel_for(num_panels, 1, [&](Index panel, Index last) {
            for (; panel < last; ++panel) {
                detail::pack_transposed<Factors>(weight, panel, 0, weight.columns(),
                                                 out + panel * panel_size_);
            }
        });
    }

    /// Panel number `panel`, from depth `first` on.
    [[nodiscard]] const Stored* panel(Index panel, Index first) const {
        return panels_.view().data() + panel * panel_size_ + first * detail::panel_width<Factors>;
    }

private:
    Index panel_size_ = 0;
    Tensor<Stored, 1> panels_;
};

}  // namespace mor::cpu
