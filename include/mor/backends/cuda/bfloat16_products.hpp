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

#include <concepts>
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
/// Activations inside a layer are rounded when they are written. Forward products of floats with
/// fewer than 8 columns do not round: they decide where tokens go. Attention over
/// tiles rounds the factors of its products too; that of a few rows, and of paged keys, does not.
template <System S>
class BFloat16Products : public S {
public:
    using typename S::Space;
    using PackedWeight = RoundedWeight<Space>;
    using ActivationElement = BFloat16;
    using AttentionFactor = BFloat16;
    static constexpr std::string_view name = Joined<&S::name, &detail::bfloat16_suffix>::text;

    using S::S;

    /// See product.hpp.
    void product(const Factor<float, Space>& a, const Factor<float, Space>& b,
                 View<float, 2, Space> c, Write write) const {
        const bool is_forward = a.reading == Reading::as_stored && b.reading == Reading::transposed;
        if (is_forward && c.columns() < PackedWeight::fewest_outputs) {
            S::product(a, b, c, write);
        } else {
            product_of_rounded(a, b, c, write);
        }
    }

    /// The same with one factor or both rounded already, or sums that are rounded when they are
    /// written: whatever the number of columns.
    template <class B, class C>
    void product(const RoundedFactor<Space>& a, const B& b, View<C, 2, Space> c,
                 Write write) const {
        product_of_rounded(a, b, c, write);
    }
    template <class C>
    void product(const Factor<float, Space>& a, const RoundedFactor<Space>& b, View<C, 2, Space> c,
                 Write write) const {
        product_of_rounded(a, b, c, write);
    }
    void product(const Factor<float, Space>& a, const Factor<float, Space>& b,
                 View<BFloat16, 2, Space> c, Write write) const {
        product_of_rounded(a, b, c, write);
    }

private:
    template <class A, class B, class C>
    void product_of_rounded(const A& a, const B& b, View<C, 2, Space> c, Write write) const {
        if constexpr (requires { S::product_of_rounded(a, b, c, write); }) {
            S::product_of_rounded(a, b, c, write);
        } else {
            const auto left = as_floats(a);
            const auto right = as_floats(b);
            const Factor<float, Space> a_floats{left.view(), a.reading};
            const Factor<float, Space> b_floats{right.view(), b.reading};
            if constexpr (std::same_as<C, float>) {
                S::product(a_floats, b_floats, c, write);
            } else {
                Tensor<float, 2, Space> sums = as_floats(RoundedFactor<Space>{c, c.columns()});
                S::product(a_floats, b_floats, sums.view(), write);
                round_rows(*this, sums.view(), c);
            }
        }
    }

    [[nodiscard]] Tensor<float, 2, Space> as_floats(const Factor<float, Space>& factor) const {
        const View<const float, 2, Space> from = factor.matrix;
        Tensor<BFloat16, 2, Space> rows{{from.rows(), rounded_pitch(from.columns())}};
        round_rows(*this, from, rows.view());
        return as_floats(RoundedFactor<Space>{rows.view(), from.columns()});
    }
    [[nodiscard]] Tensor<float, 2, Space> as_floats(const RoundedFactor<Space>& factor) const {
        Tensor<float, 2, Space> result{{factor.matrix.rows(), factor.stored_columns}};
        this->for_each(result.size(),
                       detail::WidenRows{factor.matrix.data(), result.view().data(),
                                         factor.stored_columns, factor.matrix.columns()});
        return result;
    }
};

}  // namespace mor::cuda
