// SPDX-License-Identifier: Apache-2.0
//
// Activations and their gradients that are rounded when they are written, because products of
// 16-bit factors read them.
#include "backends/backends.hpp"
#include "cuda/rounded_numbers.hpp"
#include <mor/ops/linear.hpp>
#include <mor/ops/rms_norm.hpp>
#include <mor/ops/swiglu.hpp>
#include <mor/ops/to_activations.hpp>

using namespace backend_tests;
using namespace rounded_numbers;
using mor::BFloat16;
using mor::Write;

namespace {

/// The three products of a linear layer, as far as they read its input, in host memory.
template <Backend B, class X>
[[nodiscard]] std::vector<std::vector<float>> products_of(const X& x, const Matrix<B>& value,
                                                          const Matrix<B>& dy) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const Index rows = x.view().rows();
    const Index out = value.view().rows();
    mor::Parameter<B> weight{"weight", {out, x.view().columns()}, mor::WeightDecay::yes};
    mor::from_host(weight.value(), mor::to_host(value.view()));
    Matrix<B> y{{rows, out}}, kept_y{{rows, out}}, dweight{{out, x.view().columns()}};
    for (const Write write : {Write::overwrite, Write::accumulate}) {
        ops::linear<B>(context, x.view(), value.view(), y.view(), write);
        ops::linear<B>(context, x.view(), weight, kept_y.view(), write);
        ops::linear_backward_weight<B>(context, dy.view(), x.view(), dweight.view());
    }
    CHECK(context.flops() == 6 * 2.0 * static_cast<double>(rows * value.size()));
    return {mor::to_host(y.view()), mor::to_host(kept_y.view()), mor::to_host(dweight.view())};
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("rms_norm writes for products what they would round its output to", B,
                          rms_norm_rounds) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{5};
    for (const Index rows : {0, 1, 7}) {
        for (const Index hidden : {1, 13, 96, 577}) {
            CAPTURE(rows);
            CAPTURE(hidden);
            const auto x = random_matrix<B>(rows, hidden, random);
            Tensor<float, 1, typename B::Space> weight{{hidden}}, inverse{{rows}}, other{{rows}};
            mor::testing::random_fill(weight.view(), random);
            Matrix<B> exact{{rows, hidden}};
            Input<B> y{{rows, hidden}};
            ops::rms_norm<B>(context, x.view(), weight.view(), 1e-5, exact.view(), inverse.view());
            ops::rms_norm<B>(context, x.view(), weight.view(), 1e-5, y.view(), other.view());
            CHECK(bits_of(as_const(y.view())) == bits_of(as_const(exact.view())));
            CHECK(mor::to_host(other.view()) == mor::to_host(inverse.view()));
        }
    }
    Input<B> wrong{{7, 576}};
    Tensor<float, 1, typename B::Space> weight{{577}}, inverse{{7}};
    CHECK_THROWS_WITH_AS(ops::rms_norm<B>(context, random_matrix<B>(7, 577, random).view(),
                                          weight.view(), 1e-5, wrong.view(), inverse.view()),
                         "mor::ops::rms_norm: y is [7, 576], expected [7, 577]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(rms_norm_rounds, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("swiglu writes for products what they would round its output to", B,
                          swiglu_rounds) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{6};
    for (const Index rows : {0, 1, 7}) {
        const auto gate = random_matrix<B>(rows, 101, random);
        const auto up = random_matrix<B>(rows, 101, random);
        Matrix<B> exact{{rows, 101}};
        Input<B> y{{rows, 101}};
        ops::swiglu<B>(context, gate.view(), up.view(), exact.view());
        ops::swiglu<B>(context, gate.view(), up.view(), y.view());
        CHECK(bits_of(as_const(y.view())) == bits_of(as_const(exact.view())));
    }
}
TEST_CASE_TEMPLATE_APPLY(swiglu_rounds, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("swiglu of rounded numbers is that of the same floats, rounded once", B,
                          swiglu_reads_rounded) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{9};
    const auto random_rounded = [&random] { return rounded<B>(random_matrix<B>(7, 101, random)); };
    const auto gate = random_rounded();
    const auto up = random_rounded();
    const auto dy = random_rounded();
    Input<B> y{{7, 101}}, dgate{{7, 101}}, dup{{7, 101}};
    ops::swiglu<B>(context, gate.view(), up.view(), y.view());
    ops::swiglu_backward<B>(context, gate.view(), up.view(), dy.view(), dgate.view(), dup.view());

    const auto float_gate = widened<B>(gate);
    const auto float_up = widened<B>(up);
    const auto float_dy = widened<B>(dy);
    Matrix<B> exact{{7, 101}}, exact_dgate{{7, 101}}, exact_dup{{7, 101}};
    ops::swiglu<B>(context, float_gate.view(), float_up.view(), exact.view());
    ops::swiglu_backward<B>(context, float_gate.view(), float_up.view(), float_dy.view(),
                            exact_dgate.view(), exact_dup.view());
    CHECK(bits_of(as_const(y.view())) == bits_of(as_const(exact.view())));
    CHECK(bits_of(as_const(dgate.view())) == bits_of(as_const(exact_dgate.view())));
    CHECK(bits_of(as_const(dup.view())) == bits_of(as_const(exact_dup.view())));
}
TEST_CASE_TEMPLATE_APPLY(swiglu_reads_rounded, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("products write for products what they would round their output to", B,
                          products_round) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{10};  // of numbers whose sums need rounding, but are the same in any order
    for (const auto& [rows, in, out] :
         {std::array<Index, 3>{0, 8, 8}, {1, 8, 8}, {7, 96, 24}, {130, 64, 8}}) {
        CAPTURE(rows);
        const auto x = rounded<B>(exact_matrix<B>(rows, in, random));
        const auto dy = rounded<B>(exact_matrix<B>(rows, out, random));
        mor::Parameter<B> weight{"weight", {out, in}, mor::WeightDecay::yes};
        mor::from_host(weight.value(), mor::to_host(exact_matrix<B>(out, in, random).view()));
        Matrix<B> exact_y{{rows, out}}, exact_dx{{rows, in}};
        Input<B> y{{rows, out}}, kept_y{{rows, out}}, dx{{rows, in}}, kept_dx{{rows, in}};
        const mor::ConstMatrixView<B> value = std::as_const(weight).value_matrix();
        ops::linear<B>(context, x.view(), value, exact_y.view());
        ops::linear<B>(context, x.view(), value, y.view());
        ops::linear<B>(context, x.view(), weight, kept_y.view());
        ops::linear_backward_input<B>(context, dy.view(), value, exact_dx.view());
        ops::linear_backward_input<B>(context, dy.view(), value, dx.view());
        ops::linear_backward_input<B>(context, dy.view(), weight, kept_dx.view());
        CHECK(bits_of(as_const(y.view())) == bits_of(as_const(exact_y.view())));
        CHECK(bits_of(as_const(kept_y.view())) == bits_of(as_const(exact_y.view())));
        CHECK(bits_of(as_const(dx.view())) == bits_of(as_const(exact_dx.view())));
        CHECK(bits_of(as_const(kept_dx.view())) == bits_of(as_const(exact_dx.view())));
    }
    // What is added to is rounded once more: here nothing has to be.
    const auto x = rounded<B>(exact_matrix<B>(7, 16, random));
    const auto weight = exact_matrix<B>(9, 16, random);
    Matrix<B> exact{{7, 9}};
    Input<B> y{{7, 9}};
    for (const Write write : {Write::overwrite, Write::accumulate}) {
        ops::linear<B>(context, x.view(), weight.view(), exact.view(), write);
        ops::linear<B>(context, x.view(), weight.view(), y.view(), write);
        CHECK(bits_of(as_const(y.view())) == bits_of(as_const(exact.view())));
    }
}
TEST_CASE_TEMPLATE_APPLY(products_round, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE(
    "a gradient that is rounded once gives the bits of one that each product rounds", B,
    rounded_gradient_products) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{11};
    const auto x = rounded<B>(random_matrix<B>(33, 48, random));
    const auto dy = random_matrix<B>(33, 64, random);
    mor::Parameter<B> weight{"weight", {64, 48}, mor::WeightDecay::yes};
    mor::testing::random_fill(weight.value(), random);
    Matrix<B> dx{{33, 48}}, dweight{{64, 48}}, rounded_dx{{33, 48}}, rounded_dweight{{64, 48}};
    ops::linear_backward_input<B>(context, dy.view(), weight, dx.view());
    ops::linear_backward_weight<B>(context, dy.view(), x.view(), dweight.view());
    const mor::ConstActivationView<B> once = ops::to_activations<B>(context, dy.view());
    CHECK(bits_of(once) == bits_of(as_const(dy.view())));
    ops::linear_backward_input<B>(context, once, weight, rounded_dx.view());
    ops::linear_backward_weight<B>(context, once, x.view(), rounded_dweight.view());
    CHECK(mor::to_host(rounded_dx.view()) == mor::to_host(dx.view()));
    CHECK(mor::to_host(rounded_dweight.view()) == mor::to_host(dweight.view()));
}
TEST_CASE_TEMPLATE_APPLY(rounded_gradient_products, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a rounded input gives the bits that a float one gives", B,
                          rounded_input_products) {
    mor::Random random{7};
    const auto check = [](const Matrix<B>& x, const Matrix<B>& weight, const Matrix<B>& dy) {
        CHECK(products_of<B>(rounded<B>(x), weight, dy) == products_of<B>(x, weight, dy));
    };
    // Rows of whole packets have the same distance in memory as those that a product rounds.
    for (const auto& [rows, in, out] : {std::array<Index, 3>{1, 8, 8}, {7, 96, 19}, {130, 64, 8}}) {
        CAPTURE(rows);
        check(random_matrix<B>(rows, in, random), random_matrix<B>(out, in, random),
              random_matrix<B>(rows, out, random));
    }
    // Others may be multiplied by another algorithm.
    for (const auto& [rows, in, out] :
         {std::array<Index, 3>{0, 13, 9}, {1, 1, 8}, {7, 13, 9}, {33, 101, 48}, {5, 70, 300}}) {
        CAPTURE(rows);
        CAPTURE(in);
        check(exact_matrix<B>(rows, in, random), exact_matrix<B>(out, in, random),
              exact_matrix<B>(rows, out, random));
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_input_products, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a rounded input's weight is rounded too, however few columns it has", B,
                          rounded_input_narrow) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    const float third = 1.0F / 3.0F;
    mor::Parameter<B> weight{"weight", {2, 1}, mor::WeightDecay::yes};
    weight.fill(double{third});
    Matrix<B> x{{1, 1}}, y{{1, 2}};
    mor::testing::fill_from(x.view(), std::vector<double>{1});
    ops::linear<B>(context, x.view(), weight, y.view());
    CHECK(mor::to_host(y.view()).at(1) == third);
    ops::linear<B>(context, rounded<B>(x).view(), weight, y.view());
    CHECK(mor::to_host(y.view()).at(1) == mor::to_float(mor::to_bfloat16(third)));
}
TEST_CASE_TEMPLATE_APPLY(rounded_input_narrow, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("a row of a product of rounded inputs does not depend on the others", B,
                          rounded_input_is_invariant) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    mor::Random random{8};
    for (const Index in : {13, 64, 576}) {
        for (const Index out : {5, 48, 101}) {
            CAPTURE(in);
            CAPTURE(out);
            const auto x = rounded<B>(random_matrix<B>(23, in, random));
            const auto weight = random_matrix<B>(out, in, random);
            Matrix<B> y{{23, out}};
            ops::linear<B>(context, x.view(), weight.view(), y.view());
            for (const Index rows : {1, 2, 9}) {
                const Index first = 23 - rows - 1;
                Matrix<B> part{{rows, out}};
                ops::linear<B>(context, x.view().slice(first, rows), weight.view(), part.view());
                CHECK(mor::to_host(part.view()) == mor::to_host(y.view().slice(first, rows)));
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rounded_input_is_invariant, BackendsUnderTest);
