// SPDX-License-Identifier: Apache-2.0
//
// Once passes repeat, the CUDA backend takes no memory any more. Which backends are tested says
// under_test.hpp, found by the include path.
#include "under_test.hpp"
#include <mor/generate/generate.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>
#include <unit/train/token_text.hpp>

#include <tuple>

namespace {

using namespace mor::test;
using mor::Index;
using Tested = std::tuple_element_t<0, backend_tests::BackendsUnderTest>;

/// How often memory was taken: from the system by the arena, and from the GPU's pool by anything.
template <class B>
Index allocations(mor::Context<B>& context) {
    Index count = context.arena().allocations();
    if constexpr (requires { B::Space::memory(); }) {
        count += B::Space::memory().allocations;
    }
    return count;
}

}  // namespace

TEST_CASE_TEMPLATE("after the first steps training takes no memory", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::MiddleCycle>) {
    Tested backend;
    mor::Model<A, Tested> model{backend, small_config<A>(), small_options<A>(), 3};
    const auto text = random_text(500);
    mor::Trainer trainer{model, text, text.all(), {.batch = 8, .sequence = 60}};
    trainer.step();
    trainer.step();  // begins by making one piece of memory of several
    const Index before = allocations(trainer.context());
    CHECK(before > 0);
    for (int step = 0; step < 4; ++step) {
        trainer.step();
    }
    CHECK(allocations(trainer.context()) == before);
}

TEST_CASE_TEMPLATE("after the first token decoding takes no memory", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>) {
    Tested backend;
    const mor::Model<A, Tested> model{backend, small_config<A>(), small_options<A>(), 3};
    auto cache = model.make_cache(2);
    mor::Context<Tested> context{backend};
    mor::Trace<A, Tested> trace;
    const auto read = [&](const Sequences& tokens) {
        model.extend(context, tokens.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    };
    read(random_sequences({20, 10}, 29, 5));
    const Sequences next = random_sequences({1, 1}, 29, 6);
    read(next);
    const Index before = allocations(context);
    CHECK(before > 0);
    for (int token = 0; token < 8; ++token) {  // fewer than the cache has room for
        read(next);
    }
    CHECK(allocations(context) == before);
}
