// SPDX-License-Identifier: Apache-2.0
//
// Once passes repeat they take no memory, neither for the arena nor for anything else: here every
// operator new of the program is counted. (Eigen's own matrices, which take theirs elsewhere, are
// in no kernel: kernels map views.) And what training never takes.
#include "unit/model/small_model.hpp"
#include <mor/backends/cpu/cpu.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;
using mor::test::random_sequences;
using mor::test::Sequences;

std::atomic<Index> taken = 0;

void* take(std::size_t bytes, std::size_t alignment) {
    ++taken;
    // A multiple of the alignment, which is never zero.
    void* const memory = std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
    if (memory == nullptr) {
        throw std::bad_alloc{};
    }
    return memory;
}

// Where g++ inlines this it finds that free() is not the partner of operator new.
[[gnu::noinline]] void give_back(void* memory) { std::free(memory); }

}  // namespace

void* operator new(std::size_t bytes) { return take(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t /*bytes*/) noexcept { give_back(memory); }
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
    give_back(memory);
}

namespace {

/// Wide enough for several threads to share its products.
template <class A>
mor::ModelConfig wide_config() {
    mor::ModelConfig config = mor::test::small_config<A>();
    config.vocab_size = 512;
    config.hidden_size = 64;
    config.intermediate_size = 160;
    config.head_dim = 16;
    return config;
}

struct Noise {
    static Index size() { return 1 << 16; }
    static const std::string& name() {
        static const std::string name = "noise";
        return name;
    }
    static void read(Index offset, std::span<mor::TokenId> out) {
        mor::Random random{1, static_cast<std::uint64_t>(offset)};
        for (mor::TokenId& token : out) {
            token = static_cast<mor::TokenId>(random.below(512));
        }
    }
};

/// How often `act` takes memory once it has run a few times. A thread of several may come late, and
/// find that it has work for the first time: then the third calm one in a row counts, if there is
/// one.
template <class Act>
Index count_taken(const Act& act, Index threads, Index expected) {
    Index count = 0;
    Index calm = 0;
    const Index most = threads == 1 ? 6 : 100;
    for (Index i = 0; i < most && calm < 3; ++i) {
        const Index before = taken;
        act();
        count = taken - before;
        calm = count == expected ? calm + 1 : 0;
    }
    return calm == 3 ? expected : count;
}

template <class A>
void check_decoding(Index threads) {
    CAPTURE(threads);
    Cpu cpu{{.threads = threads}};
    const mor::Model<A, Cpu> model{cpu, wide_config<A>(), mor::test::small_options<A>(), 3};
    const Sequences prompt = random_sequences({40, 30, 20, 30}, 512, 5);
    const Sequences next = random_sequences({1, 1, 1, 1}, 512, 6);
    auto cache = model.make_cache(4);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    const mor::ExtendOptions options{.logits = mor::Logits::last_rows};
    CHECK(count_taken(
              [&] {
                  for (Index s = 0; s < 4; ++s) {
                      cache.clear(s);
                  }
                  model.extend(context, prompt.batch(), cache, trace, options);
                  for (int token = 0; token < 5; ++token) {
                      model.extend(context, next.batch(), cache, trace, options);
                  }
              },
              threads, 0) == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("prefill and decoding take no memory once the cache has room", A,
                   MOR_ALL_ARCHITECTURES, MOR_ROUTER_ARCHITECTURES, MOR_SHARED_CACHE_ARCHITECTURES,
                   MOR_PATTERN_CACHE_ARCHITECTURES, MOR_HYBRID_ARCHITECTURES,
                   MOR_LAST_ROWS_ARCHITECTURES) {
    check_decoding<A>(1);
    check_decoding<A>(2);
}

TEST_CASE("neither training nor evaluation holds logits of all rows") {
    using A = mor::Vanilla;
    constexpr Index sequence = 64;
    constexpr Index batch = 3 * mor::head_rows_at_once / sequence;
    mor::ModelConfig config = mor::test::small_config<A>();
    config.vocab_size = 2'048;
    config.num_layers = 1;
    Cpu cpu{{.threads = 2}};
    mor::Model<A, Cpu> model{cpu, config};
    const Noise noise;
    const mor::TokenRange all{0, Noise::size()};
    const auto bytes_of_logits =
        static_cast<std::size_t>(batch * sequence * config.vocab_size) * sizeof(float);
    mor::Trainer trainer{model, noise, all, {.steps = 1, .batch = batch, .sequence = sequence}};
    trainer.step();
    CHECK(trainer.context().arena().capacity_bytes() < bytes_of_logits);
    mor::Context<Cpu> context{cpu};
    (void)evaluate(model, context, noise, all,
                   {.batch = batch, .sequence = sequence, .max_windows = batch});
    CHECK(context.arena().capacity_bytes() < bytes_of_logits);
}

// Loss-free balancing moves its bias on the host, and is not among these.
TEST_CASE_TEMPLATE("an update takes no memory but that of its report", A, MOR_ALL_ARCHITECTURES,
                   mor::test::ExpertMlp, mor::test::ExpertAuxiliary, mor::test::TokenMlp,
                   mor::test::RandomRouted) {
    for (const Index threads : {1, 2}) {
        CAPTURE(threads);
        Cpu cpu{{.threads = threads}};
        mor::Model<A, Cpu> model{cpu, wide_config<A>(), mor::test::small_options<A>(), 3};
        const Noise noise;
        mor::Trainer trainer{model,
                             noise,
                             {0, Noise::size()},
                             {.steps = 100, .batch = 4, .sequence = 60, .measures_routing = false}};
        const mor::StepReport report = trainer.step();
        const Index lists = (report.losses.empty() ? 0 : 1) + (report.active_share.empty() ? 0 : 1);
        CHECK(count_taken([&] { trainer.step(); }, threads, lists) == lists);
    }
}
