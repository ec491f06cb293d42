// SPDX-License-Identifier: Apache-2.0
//
// A system whose products multiply factors of 16 bits: `Cuda<float, cuda::BFloat16Products<S>>`.
#pragma once

#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/backends/cuda/rounded_weight.hpp>
#include <mor/backends/cuda/system.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/core/joined.hpp>
#include <mor/core/tensor.hpp>

#include <string_view>

namespace mor::cuda {

namespace detail {

/// Writes element i of [rows, columns] of a matrix that RoundRows has rounded.
struct WidenRows {
    const BFloat16* from;
    float* to;
    Index columns;
    Index pitch;

    MOR_HOST_DEVICE void operator()(Index i) const {
        to[i] = to_float(from[i / columns * pitch + i % columns]);
    }
};

inline constexpr std::string_view bfloat16_suffix = " with bfloat16 products";

}  // namespace detail

/// As S, but products of floats round both factors to the nearest BFloat16, with sums in float.
/// Forward products with fewer than 8 columns do not: they decide where tokens go. Attention over
/// tiles rounds the factors of its products too; that of a few rows, and of paged keys, does not.
template <System S>
class BFloat16Products : public S {
public:
    using typename S::Space;
    using PackedWeight = RoundedWeight<Space>;
    using AttentionFactor = BFloat16;
    static constexpr std::string_view name = Joined<&S::name, &detail::bfloat16_suffix>::text;

    using S::S;

    /// See product.hpp.
    void product(const Factor<float, Space>& a, const Factor<float, Space>& b,
                 View<float, 2, Space> c, Write write) const {
        const bool is_forward = a.reading == Reading::as_stored && b.reading == Reading::transposed;
        if (is_forward && c.columns() < PackedWeight::fewest_outputs) {
            S::product(a, b, c, write);
        } else if constexpr (requires { S::product_of_rounded(a, b, c, write); }) {
            S::product_of_rounded(a, b, c, write);
        } else {
            const auto rounded_a = rounded(a.matrix);
            const auto rounded_b = rounded(b.matrix);
            S::product({rounded_a.view(), a.reading}, {rounded_b.view(), b.reading}, c, write);
        }
    }

    /// The same, to the bit, with a second factor that is rounded already.
    void product(const Factor<float, Space>& a, const RoundedFactor<Space>& b,
                 View<float, 2, Space> c, Write write) const {
        if constexpr (requires { S::product_of_rounded(a, b, c, write); }) {
            S::product_of_rounded(a, b, c, write);
        } else {
            const auto rounded_a = rounded(a.matrix);
            const auto widened_b = widened(b.rows, b.columns);
            S::product({rounded_a.view(), a.reading}, {widened_b.view(), b.reading}, c, write);
        }
    }

private:
    [[nodiscard]] Tensor<float, 2, Space> rounded(View<const float, 2, Space> matrix) const {
        Tensor<BFloat16, 2, Space> rows{{matrix.rows(), rounded_pitch(matrix.columns())}};
        round_rows(*this, matrix, rows.view());
        return widened(rows.view(), matrix.columns());
    }
    [[nodiscard]] Tensor<float, 2, Space> widened(View<const BFloat16, 2, Space> rows,
                                                  Index columns) const {
        Tensor<float, 2, Space> result{{rows.rows(), columns}};
        this->for_each(result.size(), detail::WidenRows{rows.data(), result.view().data(), columns,
                                                        rows.columns()});
        return result;
    }
};

}  // namespace mor::cuda
