// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/optimizer.hpp>

#include <limits>

using namespace backend_tests;
using mor::AdamWRule;
using mor::AdamWStep;
using mor::OptimizerGroup;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A tensor with its gradient and moments, on both sides.
template <class B>
struct Trained {
    typename Bench<B>::template Numbers<1> gradient;
    typename Bench<B>::template Numbers<1> value;
    typename Bench<B>::template Numbers<1> m;
    typename Bench<B>::template Numbers<1> v;
    OptimizerGroup group = OptimizerGroup::model;
    double rate_factor = 1;
    double decay = 0;

    static Trained random(Bench<B>& bench, Index size) {
        auto v = bench.vector(size);
        std::vector<double> squares = mor::to_host(v.oracle.view());
        for (double& x : squares) {
            x *= x;
        }
        v.fill(squares);
        return {bench.vector(size), bench.vector(size), bench.vector(size), std::move(v)};
    }
    static Trained of(Bench<B>& bench, const std::vector<double>& gradient,
                      const std::vector<double>& value) {
        const std::vector<double> zeros(value.size(), 0.0);
        return {bench.vector_of(gradient), bench.vector_of(value), bench.vector_of(zeros),
                bench.vector_of(zeros)};
    }
};

template <class B, class Side>
auto table_of(Side side, std::vector<Trained<B>>& tensors) {
    std::vector<mor::TrainedTensor<typename Side::B>> list;
    for (Trained<B>& tensor : tensors) {
        list.push_back({side(tensor.gradient), side(tensor.value), side(tensor.m), side(tensor.v),
                        tensor.group, tensor.rate_factor, tensor.decay});
    }
    return mor::TensorTable<typename Side::B>{list};
}

/// One update of all tensors, on both sides, with gradients that are scaled by `scales`.
template <class B>
void update(Bench<B>& bench, const AdamWRule& rule, const AdamWStep& step,
            const std::vector<double>& scales, std::vector<Trained<B>>& tensors) {
    auto scales_pair = bench.template integers<double>(scales);
    auto step_pair = bench.template integers<AdamWStep>({step});
    bench.run([&](auto side) {
        ops::adamw(side.context, rule, side(step_pair), side(scales_pair),
                   table_of<B>(side, tensors));
    });
}

template <class B>
void expect_agreement(Bench<B>& bench, Trained<B>& tensor, Index reduction_length) {
    bench.expect_agreement(tensor.value, reduction_length);
    bench.expect_agreement(tensor.m, reduction_length);
    bench.expect_agreement(tensor.v, reduction_length);
}

/// Sizes about those of chunks, of which none but one is a multiple.
template <class B>
std::vector<Trained<B>> tensors_of_all_sizes(Bench<B>& bench) {
    std::vector<Trained<B>> tensors;
    for (const Index size : {1'000, 7, 0, 16'384, 16'385, 1, 70'001}) {
        auto& tensor = tensors.emplace_back(Trained<B>::random(bench, size));
        const bool is_auxiliary = std::size(tensors) % 3 == 2;
        tensor.group = is_auxiliary ? OptimizerGroup::auxiliary_router : OptimizerGroup::model;
        tensor.rate_factor = is_auxiliary ? 10 : 1;
        tensor.decay = std::size(tensors) % 2 == 0 ? 0.1 : 0;
    }
    return tensors;
}

/// The norms of both groups on the side under test.
template <class B>
std::vector<double> norms_of(Bench<B>& bench, std::vector<Trained<B>>& tensors) {
    Tensor<double, 1, typename B::Space> norms{{mor::num_trained_groups}};
    const auto table = table_of<B>(OneSide<B, false>{bench.context()}, tensors);
    ops::gradient_norms<B>(bench.context(), table, norms.view());
    return mor::to_host(norms.view());
}

template <class B>
std::vector<double> scales_of(Bench<B>& bench, double clip, double loss,
                              const std::vector<double>& norms) {
    auto loss_pair = bench.template integers<double>({loss});
    auto norms_pair = bench.template integers<double>(norms);
    Tensor<double, 1, typename B::Space> scales{{mor::num_trained_groups}};
    ops::clip_scales<B>(bench.context(), clip, loss_pair.tested.view(), norms_pair.tested.view(),
                        scales.view());
    return mor::to_host(scales.view());
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("two steps of adamw by hand", B, adamw_by_hand) {
    Bench<B> bench;
    std::vector<Trained<B>> tensors;
    auto& tensor = tensors.emplace_back(Trained<B>::of(bench, {0}, {1}));
    tensor.decay = 0.1;
    const auto step = [&](double correction, double gradient) {
        tensor.gradient.fill(std::vector<double>{gradient});
        update(bench, {.beta1 = 0.5, .beta2 = 0.5, .epsilon = 0.5},
               {.learning_rate = 0.1, .correction1 = correction, .correction2 = correction},
               {0.5, not_a_number}, tensors);
    };
    // g = 0.5, m = 0.25, v = 0.125; corrected 0.5 and 0.25; 0.5 / (0.5 + 0.5) = 0.5.
    step(1 - 0.5, 1.0);
    bench.expect_values(tensor.m, {0.25}, 1);
    bench.expect_values(tensor.v, {0.125}, 1);
    bench.expect_values(tensor.value, {1 - 0.1 * (0.5 + 0.1 * 1)}, 1);
    // g = -0.1, m = 0.075, v = 0.0675; corrected 0.1 and 0.09; 0.1 / (0.3 + 0.5) = 0.125.
    step(1 - 0.25, -0.2);
    bench.expect_values(tensor.m, {0.075}, 1);
    bench.expect_values(tensor.v, {0.0675}, 1);
    bench.expect_values(tensor.value, {0.94 - 0.1 * (0.125 + 0.1 * 0.94)}, 1);
}
TEST_CASE_TEMPLATE_APPLY(adamw_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("adamw of several tensors agrees with the oracle over several steps", B,
                          adamw_agrees) {
    Bench<B> bench;
    auto tensors = tensors_of_all_sizes(bench);
    for (int t = 1; t <= 3; ++t) {
        for (Trained<B>& tensor : tensors) {
            tensor.gradient = bench.vector(tensor.gradient.tested.size());
        }
        update(bench, {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8},
               {.learning_rate = 3e-3,
                .correction1 = 1 - std::pow(0.9, t),
                .correction2 = 1 - std::pow(0.95, t)},
               {0.3, 0.6}, tensors);
    }
    for (Trained<B>& tensor : tensors) {
        CAPTURE(tensor.value.tested.size());
        expect_agreement(bench, tensor, 3);
    }
}
TEST_CASE_TEMPLATE_APPLY(adamw_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("adamw without gradient only decays", B, adamw_decay) {
    Bench<B> bench;
    std::vector<Trained<B>> tensors;
    auto& tensor = tensors.emplace_back(Trained<B>::of(bench, {0, 0}, {2, -4}));
    tensor.decay = 0.5;
    update(bench, {.beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8}, {.learning_rate = 0.5}, {1, 1},
           tensors);
    bench.expect_values(tensor.value, {1.5, -3}, 1);
}
TEST_CASE_TEMPLATE_APPLY(adamw_decay, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient_norms are accurate, of any length, and apart for each group", B,
                          gradient_norms_agree) {
    // In double whatever the element type is.
    const double tolerance = mor::testing::tolerance<double>(70'001);
    for (const Index size : {0, 1, 7, 16'384, 70'001}) {
        CAPTURE(size);
        Bench<B> bench;
        std::vector<Trained<B>> tensors;
        tensors.push_back(Trained<B>::random(bench, size));
        double squares = 0;
        for (const double x : mor::to_host(tensors[0].gradient.tested.view())) {
            squares += x * x;
        }
        const std::vector<double> norms = norms_of(bench, tensors);
        CHECK(mor::testing::mismatch(norms[0], std::sqrt(squares), tolerance) == "");
        CHECK(norms[1] == 0);
    }
    Bench<B> bench;
    auto tensors = tensors_of_all_sizes(bench);
    std::array<double, 2> squares{};
    for (Trained<B>& tensor : tensors) {
        for (const double x : mor::to_host(tensor.gradient.tested.view())) {
            squares.at(static_cast<std::size_t>(tensor.group)) += x * x;
        }
    }
    const std::vector<double> norms = norms_of(bench, tensors);
    CHECK(mor::testing::mismatch(norms[0], std::sqrt(squares[0]), tolerance) == "");
    CHECK(mor::testing::mismatch(norms[1], std::sqrt(squares[1]), tolerance) == "");
    CHECK(norms_of(bench, tensors) == norms);  // to the bit
}
TEST_CASE_TEMPLATE_APPLY(gradient_norms_agree, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("gradient_norms do not overflow where squares of floats would", B,
                          gradient_norms_large) {
    Bench<B> bench;
    std::vector<Trained<B>> tensors;
    tensors.push_back(Trained<B>::of(bench, {3e30, 4e30}, {0, 0}));
    const double norm = norms_of(bench, tensors)[0];
    CHECK(mor::testing::mismatch(norm, 5e30, mor::testing::tolerance<float>(1)) == "");
}
TEST_CASE_TEMPLATE_APPLY(gradient_norms_large, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("clip_scales bring large norms down, and nothing up", B, clip_by_hand) {
    Bench<B> bench;
    const auto scales = scales_of(bench, 2.0, 1.0, {8.0, 1.5});
    CHECK(scales[0] == doctest::Approx(2.0 / (8.0 + 1e-6)).epsilon(1e-15));
    CHECK(scales[1] == 1.0);
    CHECK(scales_of(bench, 2.0, 1.0, {0.0, 0.0}) == std::vector<double>{1.0, 1.0});
    const auto all_are_nan = [&](double loss, const std::vector<double>& norms) {
        const auto found = scales_of(bench, 2.0, loss, norms);
        return std::isnan(found[0]) && std::isnan(found[1]);
    };
    for (const double wrong : {infinity, -infinity, not_a_number}) {
        CHECK(all_are_nan(wrong, {1.0, 1.0}));
        CHECK(all_are_nan(1.0, {wrong, 1.0}));
        CHECK(all_are_nan(1.0, {1.0, wrong}));
    }
}
TEST_CASE_TEMPLATE_APPLY(clip_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("one gradient that is not finite leaves all weights and moments", B,
                          not_finite) {
    for (const double wrong : {infinity, -infinity, not_a_number}) {
        CAPTURE(wrong);
        Bench<B> bench;
        auto tensors = tensors_of_all_sizes(bench);
        std::vector<double> gradient = mor::to_host(tensors.back().gradient.oracle.view());
        gradient[gradient.size() - 2] = wrong;
        tensors.back().gradient.fill(gradient);
        const auto everything = [&] {
            std::vector<std::vector<typename B::Element>> all;
            for (const Trained<B>& tensor : tensors) {
                for (const auto* part : {&tensor.value, &tensor.m, &tensor.v}) {
                    all.push_back(mor::to_host(part->tested.view()));
                }
            }
            return all;
        };
        const auto before = everything();
        const auto scales = scales_of(bench, 1.0, 1.0, norms_of(bench, tensors));
        update(bench, {.beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8}, {.learning_rate = 0.5}, scales,
               tensors);
        CHECK(everything() == before);
        // And with numbers as scales it would not have.
        update(bench, {.beta1 = 0.9, .beta2 = 0.9, .epsilon = 1e-8}, {.learning_rate = 0.5}, {1, 1},
               tensors);
        CHECK(everything() != before);
    }
}
TEST_CASE_TEMPLATE_APPLY(not_finite, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("operations of an optimiser name the argument that does not fit", B,
                          optimizer_shapes) {
    Bench<B> bench;
    auto& context = bench.context();
    auto a = bench.vector(7);
    auto b = bench.vector(6);
    const auto throws = [](const char* message, auto&& call) {
        CHECK_THROWS_WITH_AS(call(), message, mor::ShapeError);
    };
    const auto list = [&](auto& gradient, auto& m, auto& v) {
        const mor::TensorTable<B> table{
            {{gradient.tested.view(), a.tested.view(), m.tested.view(), v.tested.view()}}};
    };
    throws("mor::ops::adamw: gradient is [6], expected [7]", [&] { list(b, a, a); });
    throws("mor::ops::adamw: m is [6], expected [7]", [&] { list(a, b, a); });
    throws("mor::ops::adamw: v is [6], expected [7]", [&] { list(a, a, b); });

    const mor::TensorTable<B> table;
    Tensor<double, 1, typename B::Space> one{{1}}, two{{2}};
    Tensor<AdamWStep, 1, typename B::Space> step{{1}}, steps{{2}};
    throws("mor::ops::gradient_norms: norms is [1], expected [2]",
           [&] { ops::gradient_norms<B>(context, table, one.view()); });
    throws("mor::ops::clip_scales: loss is [2], expected [1]",
           [&] { ops::clip_scales<B>(context, 1, two.view(), two.view(), two.view()); });
    throws("mor::ops::clip_scales: norms is [1], expected [2]",
           [&] { ops::clip_scales<B>(context, 1, one.view(), one.view(), two.view()); });
    throws("mor::ops::clip_scales: scales is [1], expected [2]",
           [&] { ops::clip_scales<B>(context, 1, one.view(), two.view(), one.view()); });
    throws("mor::ops::adamw: step is [2], expected [1]",
           [&] { ops::adamw<B>(context, {}, steps.view(), two.view(), table); });
    throws("mor::ops::adamw: scales is [1], expected [2]",
           [&] { ops::adamw<B>(context, {}, step.view(), one.view(), table); });
}
TEST_CASE_TEMPLATE_APPLY(optimizer_shapes, BackendsUnderTest);
