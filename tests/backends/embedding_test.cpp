// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/embedding.hpp>

using namespace backend_tests;

TEST_CASE_TEMPLATE_DEFINE("embedding and its gradient agree with the oracle", B, embedding_agrees) {
    for (const Index rows : {0, 1, 7, 130}) {
        for (const Index hidden : {1, 5, 96, 700}) {
            CAPTURE(rows);
            CAPTURE(hidden);
            Bench<B> bench;
            const Index vocabulary = 11;  // so that tokens repeat
            auto tokens = bench.integers(
                mor::testing::uniform_integers<TokenId>(bench.random(), rows, 0, vocabulary));
            auto table = bench.matrix(vocabulary, hidden);
            auto out = bench.matrix(rows, hidden);
            auto dout = bench.matrix(rows, hidden);
            auto dtable = bench.matrix(vocabulary, hidden);
            bench.run([&](auto side) {
                ops::embedding(side.context, side(tokens), side(table), side(out));
                ops::embedding_backward(side.context, side(tokens), side(dout), side(dtable));
            });
            bench.expect_agreement(out, 1);
            bench.expect_agreement(dtable, rows);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(embedding_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("embedding looks up rows and adds up repeated tokens", B,
                          embedding_by_hand) {
    Bench<B> bench;
    auto tokens = bench.template integers<TokenId>({2, 0, 2});
    auto table = bench.matrix_of(3, 2, {1, 2, 3, 4, 5, 6});
    auto out = bench.matrix(3, 2);
    auto dtable = bench.matrix_of(3, 2, {10, 10, 10, 10, 10, 10});
    ops::embedding<B>(bench.context(), tokens.tested.view(), table.tested.view(),
                      out.tested.view());
    CHECK(text(mor::to_host(out.tested.view())) == "5 6 1 2 5 6");
    ops::embedding_backward<B>(bench.context(), tokens.tested.view(), out.tested.view(),
                               dtable.tested.view());
    CHECK(text(mor::to_host(dtable.tested.view())) == "11 12 10 10 20 22");
}
TEST_CASE_TEMPLATE_APPLY(embedding_by_hand, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("embedding names the argument that does not fit", B, embedding_shapes) {
    B backend = make_backend<B>();
    Context<B> context{backend};
    Tensor<TokenId, 1, typename B::Space> tokens{{4}};
    Tensor<typename B::Element, 2, typename B::Space> table{{9, 5}}, out{{3, 5}};
    CHECK_THROWS_WITH_AS(ops::embedding<B>(context, tokens.view(), table.view(), out.view()),
                         "mor::ops::embedding: out is [3, 5], expected [4, 5]", mor::ShapeError);
    CHECK_THROWS_WITH_AS(
        ops::embedding_backward<B>(context, tokens.view(), out.view(), table.view()),
        "mor::ops::embedding_backward: dout is [3, 5], expected [4, 5]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(embedding_shapes, BackendsUnderTest);
