// SPDX-License-Identifier: Apache-2.0
//
// Factors that a processor multiplies in pairs, and those made floats again, give the same
// products: the exact ones of the rounded numbers.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/testing/random_fill.hpp>
#include <mor/testing/tolerance.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

using mor::BFloat16;
using mor::Index;
using mor::Tensor;
using mor::View;
namespace detail = mor::cpu::detail;

namespace {

using Exact = detail::ExactFactors<float, 2>;
using Widened = detail::WidenedFactors<2>;
using Native = detail::BFloat16Factors<2>;

/// x weight^T by panels of F, x [rows, depth], weight [columns, depth].
template <class F>
Tensor<float, 2> product(View<const float, 2> x, View<const float, 2> weight) {
    mor::Cpu<float> cpu{{.threads = 1}};
    mor::Context<mor::Cpu<float>> context{cpu};
    Tensor<float, 2> y{{x.rows(), weight.rows()}};
    detail::multiply_packing<F>(context, x, y.view(), mor::Write::overwrite,
                                [&](Index panel, Index first, Index depth, auto* out) {
                                    detail::pack_transposed<F>(weight, panel, first, depth, out);
                                });
    return y;
}

Tensor<float, 2> random_matrix(Index rows, Index columns, mor::Random& random) {
    Tensor<float, 2> matrix{{rows, columns}};
    mor::testing::random_fill(matrix.view(), random);
    return matrix;
}

/// The same numbers, rounded.
Tensor<float, 2> rounded(View<const float, 2> matrix) {
    Tensor<float, 2> result{matrix.extents()};
    for (Index i = 0; i < matrix.size(); ++i) {
        result.view().data()[i] = mor::to_float(mor::to_bfloat16(matrix.data()[i]));
    }
    return result;
}

}  // namespace

TEST_CASE("factors: every form multiplies the rounded numbers") {
    mor::Random random{5};
    // Odd depths, depths that are cut, and columns that leave a panel unfilled.
    for (const Index depth : {1, 2, 3, 31, 64, 2'049}) {
        for (const Index columns : {1, 16, 47, 65}) {
            CAPTURE(depth);
            CAPTURE(columns);
            const auto x = random_matrix(19, depth, random);
            const auto weight = random_matrix(columns, depth, random);
            const auto expected =
                product<Exact>(rounded(x.view()).view(), rounded(weight.view()).view());
            const double tolerance = mor::testing::tolerance<float>(depth);
            for (const auto& actual : {product<Widened>(x.view(), weight.view()),
                                       product<Native>(x.view(), weight.view())}) {
                CHECK(mor::testing::mismatch(actual.view(), expected.view(), tolerance) == "");
            }
        }
    }
}

TEST_CASE("factors: products of rounded factors are as near as bfloat16 allows") {
    mor::Random random{6};
    const auto x = random_matrix(19, 576, random);
    const auto weight = random_matrix(65, 576, random);
    const auto exact = product<Exact>(x.view(), weight.view());
    const auto ours = product<Native>(x.view(), weight.view());
    constexpr double each = 0x1.0p-8;  // two factors, half a unit of 8 bits each
    CHECK(mor::testing::mismatch(ours.view(), exact.view(), each) == "");
    CHECK(mor::testing::mismatch(ours.view(), exact.view(), each / 100) != "");
}

TEST_CASE("factors: a NaN and an infinity come out of a product") {
    mor::Random random{7};
    for (const float special :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        auto x = random_matrix(3, 33, random);
        x.view()(1, 32) = special;
        const auto weight = random_matrix(20, 33, random);
        const auto y = product<Native>(std::as_const(x).view(), weight.view());
        CHECK(std::isfinite(y.view()(0, 5)));
        CHECK(!std::isfinite(y.view()(1, 5)));
        CHECK(std::isfinite(y.view()(2, 5)));
    }
}
