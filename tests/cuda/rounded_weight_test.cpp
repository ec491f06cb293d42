// SPDX-License-Identifier: Apache-2.0
//
// Weights that products of 16-bit factors keep rounded.
#include "backends/backends.hpp"
#include <mor/ops/linear.hpp>

using namespace backend_tests;

TEST_CASE_TEMPLATE_DEFINE("a weight is kept rounded from its first product on until it is written",
                          B, rounded_weight_is_kept) {
    using T = typename B::Element;
    constexpr Index rows = 3, in = 5, out = 9;
    using Matrix = Tensor<T, 2, typename B::Space>;
    static_assert(mor::PacksWeightsForGradients<B>);
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Parameter<B> weight{"weight", {out, in}, mor::WeightDecay::yes};
    Matrix x{{rows, in}}, y{{rows, out}}, dx{{rows, in}};
    mor::testing::fill_from(x.view(), std::vector<double>(static_cast<std::size_t>(x.size()), 1));
    const auto forward = [&] {
        ops::linear<B>(context, x.view(), weight, y.view());
        return mor::to_host(y.view()).at(0);
    };
    const auto backward = [&] {  // of what forward left in y
        ops::linear_backward_input<B>(context, y.view(), weight, dx.view());
        return mor::to_host(dx.view()).at(0);
    };
    const auto write = [&](const auto& view, double value) {
        mor::testing::fill_from(view,
                                std::vector<double>(static_cast<std::size_t>(in * out), value));
    };
    write(weight.value(), 1);
    CHECK(!weight.is_packed());
    CHECK(forward() == T{in});
    CHECK(weight.is_packed());
    CHECK(backward() == T{in * out});

    const auto stale = weight.value();
    CHECK(!weight.is_packed());
    CHECK(backward() == T{in * out});  // packs it, too
    CHECK(weight.is_packed());
    write(stale, 2);  // of which the weight knows nothing: products have their own
    CHECK(forward() == T{in});
    CHECK(backward() == T{in * out});
    write(weight.value(), 2);
    CHECK(forward() == T{2 * in});
    CHECK(backward() == T{4 * in * out});
}
TEST_CASE_TEMPLATE_APPLY(rounded_weight_is_kept, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a kept weight is rounded to the nearest, in rows of whole packets", B,
                          rounded_weight_rows) {
    B backend = make_backend<B>();
    mor::Random random{3};
    typename B::PackedWeight weight;
    const void* memory = nullptr;
    for (const Index in : {13, 13, 16, 1}) {
        CAPTURE(in);
        constexpr Index out = 11;
        const Index pitch = in == 1 ? 8 : 16;
        Tensor<float, 2, typename B::Space> values{{out, in}};
        mor::testing::random_fill(values.view(), random);
        const void* const before = memory;
        weight.pack(backend, values.view());
        const auto factor = weight.factor(mor::cuda::Reading::as_stored);
        memory = factor.matrix.data();
        CHECK((memory == before || before == nullptr || in == 1));  // the same size again
        REQUIRE(factor.matrix.extents() == std::array<Index, 2>{out, pitch});
        CHECK(factor.stored_columns == in);
        const std::vector<float> exact = mor::to_host(values.view());
        const std::vector<mor::BFloat16> rounded = mor::to_host(factor.matrix);
        for (Index i = 0; i < out; ++i) {
            for (Index j = 0; j < pitch; ++j) {
                const float expected = j < in ? mor::to_float(mor::to_bfloat16(
                                                    exact[static_cast<std::size_t>(i * in + j)]))
                                              : 0.0F;
                CHECK(mor::to_float(rounded[static_cast<std::size_t>(i * pitch + j)]) == expected);
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_weight_rows, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("weights of routers are not rounded for forward products, nor kept", B,
                          rounded_weight_narrow) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const double third = double{1.0F / 3.0F};
    for (const Index out : {1, 7, 8}) {
        CAPTURE(out);
        mor::Parameter<B> weight{"weight", {out, 1}, mor::WeightDecay::yes};
        weight.fill(third);
        Tensor<float, 2, typename B::Space> x{{1, 1}}, y{{1, out}}, dx{{1, 1}};
        mor::testing::fill_from(x.view(), std::vector<double>{1});
        ops::linear_backward_input<B>(context, y.view(), weight, dx.view());
        ops::linear<B>(context, x.view(), weight, y.view());
        const bool is_rounded = out == 8;
        CHECK(weight.is_packed() == is_rounded);
        CHECK((mor::to_host(y.view()).at(0) == static_cast<float>(third)) == !is_rounded);
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_weight_narrow, BackendsUnderTest);
