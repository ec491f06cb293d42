// SPDX-License-Identifier: Apache-2.0
//
// A weight [out, in] as the panels that the forward product reads, packed once for many calls.
#pragma once

#include <mor/backends/cpu/panels.hpp>
#include <mor/core/tensor.hpp>

namespace mor::cpu {

template <class T>
class PackedWeight {
public:
    /// With more rows than this, packing the weight anew in each call costs little.
    static constexpr Index most_rows = 128;

    PackedWeight() = default;
    PackedWeight(const Cpu<T>& cpu, View<const T, 2> weight)
        : extents_{weight.extents()},
          panels_{
              {detail::num_panels<T>(weight.rows()) * detail::panel_width<T> * weight.columns()}} {
        const Index size = detail::panel_width<T> * weight.columns();
        T* const out = panels_.view().data();
        cpu.parallel_for(detail::num_panels<T>(weight.rows()), 1, [&](Index panel, Index last) {
            for (; panel < last; ++panel) {
                detail::pack_transposed(weight, panel, 0, weight.columns(), out + panel * size);
            }
        });
    }

    /// Panel number `panel`, from depth `first` on.
    [[nodiscard]] const T* panel(Index panel, Index first) const {
        return panels_.view().data() + (panel * extents_[1] + first) * detail::panel_width<T>;
    }

private:
    std::array<Index, 2> extents_{};
    Tensor<T, 1> panels_;
};

}  // namespace mor::cpu
