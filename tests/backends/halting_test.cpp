// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/halting.hpp>

using namespace backend_tests;

namespace {

constexpr std::array<mor::HaltingRule, 2> rules{mor::HaltingRule::accumulate,
                                                mor::HaltingRule::survive};

/// Probabilities far enough from 0, 1 and ties that rounding decides nothing.
std::vector<double> probabilities(mor::Random& random, Index count) {
    std::vector<double> values;
    for (const Index i : mor::testing::uniform_integers(random, count, 1, 16)) {
        values.push_back(static_cast<double>(i) / 17);
    }
    return values;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("halting by hand", B, halting_by_hand) {
    Bench<B> bench;
    auto& context = bench.context();
    // Rows 0 and 2 take a step; row 2 has spent 0.75 of its 1, row 1 is over.
    auto spent = bench.vector_of({0, 1, 0.75});
    auto source = bench.integers(std::vector<Index>{0, 1, 2});
    auto kept = bench.integers(std::vector<Index>{-1, -1, -1});
    REQUIRE(ops::select_unspent<B>(context, spent.tested.view(), source.tested.view(),
                                   kept.tested.view()) == 2);
    CHECK(mor::to_host(kept.tested.view()) == std::vector<Index>{0, 2, -1});

    auto active = bench.integers(std::vector<Index>{0, 2});
    auto probability = bench.vector_of({0.5, 0.5});
    auto before = bench.vector(2);
    auto share = bench.vector(2);
    ops::halt<B>(context, {}, probability.tested.view(), active.tested.view(), spent.tested.view(),
                 before.tested.view(), share.tested.view());
    bench.expect_values(before, {0, 0.75}, 1);
    bench.expect_values(share, {0.5, 0.25}, 1);  // row 2 takes what was left, and is over
    bench.expect_values(spent, {0.5, 1, 1}, 1);

    // One step for each row, and what is left for the one that ends.
    auto dshare = bench.vector_of({0, 0});
    const auto add = [&](auto sum) {
        ops::ponder_cost<B>(context, {}, probability.tested.view(), before.tested.view(), 2.0,
                            dshare.tested.view(), 4.0, sum);
    };
    CHECK(sum_after<B>(add, 1.0) == doctest::Approx(1.0 + 4.0 * 2.25));
    bench.expect_values(dshare, {0, 2}, 1);
}
TEST_CASE_TEMPLATE_APPLY(halting_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("halting agrees with the oracle", B, halting_agrees) {
    enum class Last { none, some, all };
    for (const mor::HaltingRule rule : rules) {
        for (const Last last : {Last::none, Last::some, Last::all}) {
            for (const Index rows : {0, 1, 130}) {
                CAPTURE(static_cast<int>(rule));
                CAPTURE(static_cast<int>(last));
                CAPTURE(rows);
                Bench<B> bench;
                std::vector<Index> every(static_cast<std::size_t>(rows));
                for (std::size_t i = 0; i < every.size(); ++i) {
                    every[i] = static_cast<Index>(i);
                }
                auto source = bench.integers(every);
                auto kept = bench.integers(std::vector<Index>(every.size(), -1));
                auto is_last_of =
                    bench.integers(mor::testing::uniform_integers(bench.random(), rows, 0, 2));
                const auto halting = [&](auto side) {
                    mor::Halting<typename decltype(side)::B> result{
                        .rule = rule, .threshold = 0.9, .is_last = last == Last::all};
                    if (last == Last::some) {
                        result.is_last_of = side(is_last_of);
                    }
                    return result;
                };
                auto probability = bench.vector_of(probabilities(bench.random(), rows));
                auto spent = bench.vector_of(probabilities(bench.random(), rows));
                auto before = bench.vector(rows);
                auto share = bench.vector(rows);
                auto dshare = bench.vector(rows);
                auto carry = bench.vector(rows);
                auto dprobability = bench.vector(rows);
                bench.run([&](auto side) {
                    auto& context = side.context;
                    ops::halt(context, halting(side), side(probability), side(source), side(spent),
                              side(before), side(share));
                    ops::halt_backward(context, halting(side), side(probability), side(source),
                                       side(before), side(dshare), side(carry), side(dprobability));
                });
                bench.expect_agreement(spent, 1);
                bench.expect_agreement(before, 1);
                bench.expect_agreement(share, 1);
                bench.expect_agreement(dprobability, 2);
                bench.expect_agreement(carry, 2);
                bench.run_and_compare(rows, [&](auto side) {
                    return side.sum_after([&](auto sum) {
                        ops::ponder_cost(side.context, halting(side), side(probability),
                                         side(before), 0.3, side(dshare), 0.7, sum);
                    });
                });
                bench.run_and_compare(rows, [&](auto side) {
                    return side.sum_after([&](auto sum) {
                        ops::share_entropy(side.context, side(share), 0.3, side(dshare), 0.7, sum);
                    });
                });
                bench.expect_agreement(dshare, 2);
                bench.run_and_compare(1, [&](auto side) {
                    return static_cast<double>(
                        ops::select_unspent(side.context, side(spent), side(source), side(kept)));
                });
                bench.expect_equal(kept);
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(halting_agrees, BackendsUnderTest);
