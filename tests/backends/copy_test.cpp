// SPDX-License-Identifier: Apache-2.0
#include "backends/backends.hpp"
#include <mor/ops/copy.hpp>

using namespace backend_tests;

TEST_CASE_TEMPLATE_DEFINE("copy copies every element", B, copy_agrees) {
    for (const Index rows : {0, 1, 130}) {
        Bench<B> bench;
        auto from = bench.matrix(rows, 33);
        auto to = bench.matrix(rows, 33);
        ops::copy<B>(bench.context(), from.tested.view(), to.tested.view());
        CHECK(mor::to_host(to.tested.view()) == mor::to_host(from.tested.view()));
    }
}
TEST_CASE_TEMPLATE_APPLY(copy_agrees, BackendsUnderTest);

TEST_CASE_TEMPLATE_DEFINE("copy names the argument that does not fit", B, copy_shapes) {
    Bench<B> bench;
    auto from = bench.matrix(3, 4);
    auto to = bench.matrix(3, 5);
    CHECK_THROWS_WITH_AS(ops::copy<B>(bench.context(), from.tested.view(), to.tested.view()),
                         "mor::ops::copy: to is [3, 5], expected [3, 4]", mor::ShapeError);
}
TEST_CASE_TEMPLATE_APPLY(copy_shapes, BackendsUnderTest);
