// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/cross_entropy.hpp>

#include <functional>
#include <limits>
#include <vector>

using namespace backend_tests;

namespace {

// Random targets, every third of them ignored.
std::vector<TokenId> some_targets(mor::Random& random, Index rows, Index vocabulary) {
    auto targets = mor::testing::uniform_integers<TokenId>(random, rows, 0, vocabulary);
    for (std::size_t i = 2; i < targets.size(); i += 3) {
        targets[i] = -1;
    }
    return targets;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("cross_entropy and its gradient agree with the oracle", B,
                          cross_entropy_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        for (const Index vocabulary : {1, 5, 96, 1'000}) {
            CAPTURE(rows);
            CAPTURE(vocabulary);
            Bench<B> bench;
            auto logits = bench.matrix(rows, vocabulary, 4);
            auto targets = bench.integers(some_targets(bench.random(), rows, vocabulary));
            auto dlogits = bench.matrix(rows, vocabulary);
            bench.run_and_compare(vocabulary, [&](auto side) {
                return side.sum_after([&](auto sum) {
                    ops::cross_entropy(side.context, side(logits), side(targets), 0.25,
                                       side(dlogits), 0.7, sum);
                });
            });
            bench.expect_agreement(dlogits, vocabulary);
            // Without the gradient, and with the gradient in place of the logits.
            bench.run_and_compare(vocabulary, [&](auto side) {
                return side.sum_after([&](auto sum) {
                    ops::cross_entropy(side.context, side(logits), side(targets), 0.25, {}, 0.7,
                                       sum);
                });
            });
            bench.run_and_compare(vocabulary, [&](auto side) {
                return side.sum_after([&](auto sum) {
                    ops::cross_entropy(side.context, side(logits), side(targets), 0.25,
                                       side(logits), 0.7, sum);
                });
            });
            bench.expect_agreement(logits, vocabulary);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(cross_entropy_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("cross_entropy of known logits; ignored rows have no gradient", B,
                          cross_entropy_by_hand) {
    Bench<B> bench;
    const double log3 = std::log(3.0);
    // Probabilities 1/4 and 3/4; ignored; certain, with logits that would overflow exp.
    auto logits = bench.matrix_of(3, 2, {0, log3, 7, 8, 1e4, -1e4});
    auto targets = bench.template integers<TokenId>({0, -100, 0});
    auto dlogits = bench.matrix(3, 2);
    const auto add = [&](auto sum) {
        ops::cross_entropy<B>(bench.context(), logits.tested.view(), targets.tested.view(), 2.0,
                              dlogits.tested.view(), 0.5, sum);
    };
    // It is added to what was there.
    const double sum = sum_after<B>(add, 3.0);
    const double tolerance = mor::testing::tolerance<typename B::Element>(2);
    CHECK(mor::testing::mismatch(sum, 3.0 + 0.5 * std::log(4.0), tolerance) == "");
    bench.expect_values(dlogits, {-1.5, 1.5, 0, 0, 0, 0}, 2);
}
TEST_CASE_TEMPLATE_APPLY(cross_entropy_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("cross_entropy of logits that are minus infinity, as masked ones are", B,
                          cross_entropy_masked) {
    using T = typename B::Element;
    constexpr T masked = -std::numeric_limits<T>::infinity();
    // First, last, whole slices of what threads see, and all but two.
    for (const auto& is_masked : std::vector<std::function<bool(Index)>>{
             [](Index j) { return j == 0; }, [](Index j) { return j == 99; },
             [](Index j) { return j < 40; }, [](Index j) { return j % 4 != 3; },
             [](Index j) { return j != 7 && j != 8; }}) {
        Bench<B> bench;
        auto logits = bench.matrix(1, 100, 4);
        auto numbers = mor::to_host(logits.tested.view());
        for (Index j = 0; j < 100; ++j) {
            numbers[static_cast<std::size_t>(j)] =
                is_masked(j) ? masked : numbers[static_cast<std::size_t>(j)];
        }
        mor::from_host(logits.tested.view(), numbers);
        mor::from_host(logits.oracle.view(), std::vector<double>(numbers.begin(), numbers.end()));
        auto targets = bench.template integers<TokenId>({is_masked(99) ? 7 : 99});
        REQUIRE(!is_masked(is_masked(99) ? 7 : 99));
        auto dlogits = bench.matrix(1, 100);
        bench.run_and_compare(100, [&](auto side) {
            return side.sum_after([&](auto sum) {
                ops::cross_entropy(side.context, side(logits), side(targets), 1.0, side(dlogits),
                                   1.0, sum);
            });
        });
        bench.expect_agreement(dlogits, 100);
    }
}
TEST_CASE_TEMPLATE_APPLY(cross_entropy_masked, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("cross_entropy names the argument that does not fit", B,
                          cross_entropy_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<TokenId, 1, typename B::Space> targets{{7}}, few{{6}};
    Tensor<typename B::Element, 2, typename B::Space> logits{{7, 5}}, wrong{{7, 4}};
    Tensor<double, 1, typename B::Space> sum{{1}}, two{{2}};
    const auto loss = [&](auto& to, auto& dlogits, auto& out) {
        ops::cross_entropy<B>(context, logits.view(), to.view(), 1.0, dlogits.view(), 1.0,
                              out.view());
    };
    CHECK_THROWS_WITH_AS(loss(few, logits, sum),
                         "mor::ops::cross_entropy: targets is [6], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(loss(targets, wrong, sum),
                         "mor::ops::cross_entropy: dlogits is [7, 4], expected [7, 5]",
                         mor::ShapeError);
    CHECK_THROWS_WITH_AS(loss(targets, logits, two),
                         "mor::ops::cross_entropy: sum is [2], expected [1]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(cross_entropy_shapes, BackendsUnderTest);
