// SPDX-License-Identifier: Apache-2.0
//
// A weight [out, in] as the panels that the forward product reads, packed once for many calls.
#pragma once

#include <mor/backends/cpu/panels.hpp>
#include <mor/core/tensor.hpp>

#include <algorithm>
#include <array>

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
    /// With more rows than this, packing the weight anew in each call costs little.
    static constexpr Index most_rows = 128;

    PackedWeight() = default;
    PackedWeight(const Cpu<T, Factor>& cpu, View<const T, 2> weight) : extents_{weight.extents()} {
        if (is_narrow()) {
            narrow_ = Tensor<T, 2>{extents_};
            std::copy_n(weight.data(), weight.size(), narrow_.view().data());
            return;
        }
        const Index panels = detail::num_panels<Factors>(weight.rows());
        panels_ = Tensor<Stored, 1>{{panels * panel_size()}};
        Stored* const out = panels_.view().data();
        cpu.parallel_for(panels, 1, [&](Index panel, Index last) {
            for (; panel < last; ++panel) {
                detail::pack_transposed<Factors>(weight, panel, 0, weight.columns(),
                                                 out + panel * panel_size());
            }
        });
    }

    [[nodiscard]] bool is_narrow() const { return extents_[0] < detail::fewest_columns; }

    /// Panel number `panel`, from depth `first` on; only if the weight is not narrow.
    [[nodiscard]] const Stored* panel(Index panel, Index first) const {
        return panels_.view().data() + panel * panel_size() + first * detail::panel_width<Factors>;
    }
    /// The weight as it was; only if it is narrow.
    [[nodiscard]] View<const T, 2> narrow() const { return narrow_.view(); }

private:
    [[nodiscard]] Index panel_size() const {
        return detail::padded_depth<Factors>(extents_[1]) * detail::panel_width<Factors>;
    }

    std::array<Index, 2> extents_{};
    Tensor<Stored, 1> panels_;
    Tensor<T, 2> narrow_;
};

}  // namespace mor::cpu
