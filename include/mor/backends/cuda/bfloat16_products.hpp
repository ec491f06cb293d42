// SPDX-License-Identifier: Apache-2.0
//
// A system whose products multiply factors of 16 bits: `Cuda<float, cuda::BFloat16Products<S>>`.
#pragma once

#include <mor/backends/cuda/system.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/core/joined.hpp>
#include <mor/core/tensor.hpp>

#include <string_view>

namespace mor::cuda {

namespace detail {

struct RoundEach {
    const float* from;
    float* to;

    MOR_HOST_DEVICE void operator()(Index i) const { to[i] = to_float(to_bfloat16(from[i])); }
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
    using RoundedFactor = BFloat16;
    static constexpr std::string_view name = Joined<&S::name, &detail::bfloat16_suffix>::text;

    using S::S;

    /// See product.hpp.
    void product(const Factor<float, Space>& a, const Factor<float, Space>& b,
                 View<float, 2, Space> c, Write write) const {
        constexpr Index fewest_columns = 8;
        const bool is_forward = a.reading == Reading::as_stored && b.reading == Reading::transposed;
        if (is_forward && c.columns() < fewest_columns) {
            S::product(a, b, c, write);
        } else if constexpr (requires { S::product_of_rounded(a, b, c, write); }) {
            S::product_of_rounded(a, b, c, write);
        } else {
            const auto rounded_a = rounded(a.matrix);
            const auto rounded_b = rounded(b.matrix);
            S::product({rounded_a.view(), a.reading}, {rounded_b.view(), b.reading}, c, write);
        }
    }

private:
    [[nodiscard]] Tensor<float, 2, Space> rounded(View<const float, 2, Space> matrix) const {
        Tensor<float, 2, Space> result{matrix.extents()};
        this->for_each(matrix.size(), detail::RoundEach{matrix.data(), result.view().data()});
        return result;
    }
};

}  // namespace mor::cuda
