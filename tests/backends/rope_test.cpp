// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/rope.hpp>

using namespace backend_tests;
using mor::Rotation;

TEST_CASE_TEMPLATE_DEFINE("rope agrees with the oracle in both directions", B, rope_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        for (const Index half_dim : {1, 3, 8, 32}) {
            for (const Index heads : {1, 3}) {
                CAPTURE(rows);
                CAPTURE(half_dim);
                CAPTURE(heads);
                Bench<B> bench;
                auto positions =
                    bench.integers(mor::testing::uniform_integers(bench.random(), rows, 0, 50));
                auto cosine = bench.matrix(50, half_dim);
                auto sine = bench.matrix(50, half_dim);
                auto forward = bench.matrix(rows, heads * 2 * half_dim);
                auto backward = bench.matrix(rows, heads * 2 * half_dim);
                bench.run([&](auto side) {
                    ops::rope(side.context, side(positions), side(cosine), side(sine),
                              side(forward), Rotation::forward);
                    ops::rope(side.context, side(positions), side(cosine), side(sine),
                              side(backward), Rotation::backward);
                });
                bench.expect_agreement(forward, 2);
                bench.expect_agreement(backward, 2);
            }
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(rope_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rope turns the two halves of a head, by the row's own position", B,
                          rope_by_hand) {
    Bench<B> bench;
    // Position 1 turns pair 0 by 90 degrees and pair 1 not at all.
    auto cosine = bench.matrix_of(2, 2, {1, 1, 0, 1});
    auto sine = bench.matrix_of(2, 2, {0, 0, 1, 0});
    auto positions = bench.integers({1, 0});
    const std::vector<double> before = {1, 2, 3, 4, 5, 6, 7, 8};
    auto x = bench.matrix_of(2, 4, before);
    const auto rotate = [&](Rotation rotation) {
        ops::rope<B>(bench.context(), positions.tested.view(), cosine.tested.view(),
                     sine.tested.view(), x.tested.view(), rotation);
    };
    rotate(Rotation::forward);
    bench.expect_values(x, {-3, 2, 1, 4, 5, 6, 7, 8}, 2);
    rotate(Rotation::backward);
    bench.expect_values(x, before, 2);
}
TEST_CASE_TEMPLATE_APPLY(rope_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("rope names the argument that does not fit", B, rope_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<Index, 1, typename B::Space> positions{{7}}, few{{6}};
    Tensor<typename B::Element, 2, typename B::Space> table{{9, 4}}, small{{8, 4}}, x{{7, 24}},
        odd{{7, 20}};
    const auto rope = [&](auto& at, auto& cosine, auto& sine, auto& to) {
        ops::rope<B>(context, at.view(), cosine.view(), sine.view(), to.view(), Rotation::forward);
    };
    CHECK_THROWS_WITH_AS(rope(few, table, table, x),
                         "mor::ops::rope: positions is [6], expected [7]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(rope(positions, table, small, x),
                         "mor::ops::rope: sine is [8, 4], expected [9, 4]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(rope(positions, table, table, odd),
                         "mor::ops::rope: x has 20 columns, expected a multiple of head_dim 8",
                         mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(rope_shapes, BackendsUnderTest);
