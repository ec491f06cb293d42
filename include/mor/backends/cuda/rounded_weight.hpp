// SPDX-License-Identifier: Apache-2.0
//
// A weight [out, in] as products of 16-bit factors read it, rounded once for many of them.
#pragma once

#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/core/backend.hpp>
#include <mor/core/tensor.hpp>

#include <array>

namespace mor::cuda {

template <MemorySpace Space>
class RoundedWeight {
public:
    /// Forward products with fewer columns, of routers for instance, do not round their factors.
    static constexpr Index fewest_outputs = 8;
    static constexpr bool serves_input_gradient = true;

    [[nodiscard]] static constexpr bool pays(Index /*rows*/, Index outputs) {
        return outputs >= fewest_outputs;
    }

    /// Takes memory only for a weight of another size than before.
    template <Backend B>
    void pack(const B& backend, ConstMatrixView<B> weight) {
        const std::array<Index, 2> extents{weight.rows(), rounded_pitch(weight.columns())};
        if (rows_.extents() != extents) {
            rows_ = Tensor<BFloat16, 2, Space>{extents};
        }
        columns_ = weight.columns();
        round_rows(backend.system(), weight, rows_.view());
    }

    [[nodiscard]] RoundedFactor<Space> factor(Reading reading) const {
        return {rows_.view(), columns_, reading};
    }

private:
    Tensor<BFloat16, 2, Space> rows_;
    Index columns_ = 0;
};

}  // namespace mor::cuda
