// SPDX-License-Identifier: Apache-2.0
//
// Every shipped policy conforms, and each kind of mistake is noticed.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/reference/reference.hpp>
#include <mor/cache/hybrid.hpp>
#include <mor/model/presets.hpp>
#include <mor/routing/halting.hpp>
#include <mor/routing/random_choice.hpp>
#include <mor/routing/random_depth.hpp>
#include <mor/sharing/alternating.hpp>
#include <mor/sharing/sandwich.hpp>
#include <mor/testing/backend_conformance.hpp>
#include <mor/testing/conformance.hpp>
#include <mor/testing/scheduling_conformance.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <numeric>
#include <string_view>
#include <vector>

namespace {

using mor::Index;
using mor::testing::Violations;
using Backend = mor::Reference<float>;

const std::vector<Index> counts{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

/// Numbers layers from the last.
struct Backwards {
    static constexpr std::string_view name = "test.backwards";
    static constexpr bool has_steps = true;
    struct Options {};
    explicit Backwards(const Options& /*options*/) {}
    [[nodiscard]] mor::Layout layout(Index num_layers) const {
        mor::Layout layout{.physical = {}, .first_step_layer = num_layers};
        for (Index layer = num_layers; layer > 0; --layer) {
            layout.physical.push_back(layer - 1);
        }
        return layout;
    }
};

struct Growing {
    static constexpr std::string_view name = "test.growing";
    struct Options {};
    explicit Growing(const Options& /*options*/) {}
    [[nodiscard]] static double capacity(Index step, Index num_steps, Index /*training_step*/) {
        return static_cast<double>(step + 1) / static_cast<double>(num_steps);
    }
};

/// Reads the keys of a layer that has not run.
struct LaterKeys {
    static constexpr std::string_view name = "test.later_keys";
    struct Options {};
    explicit LaterKeys(const Options& /*options*/) {}
    [[nodiscard]] static Index key_layer(const mor::Layout& layout, Index layer) {
        return layout.num_unrolled() - 1 - layer;
    }
};

/// Keeps the first half of the batch: how long that is depends on what is to come.
struct FirstHalf {
    static constexpr std::string_view name = "test.first_half";
    using Merge = mor::Replace;
    struct Options {};
    explicit FirstHalf(const Options& /*options*/) {}
    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        Index kept = 0;
        for (Index i = 0; i < (step.num_candidates() + 1) / 2; ++i) {
            step.kept[kept++] = i;
        }
        return kept;
    }
};

/// Writes its selection in reverse.
struct Reversed {
    static constexpr std::string_view name = "test.reversed";
    using Merge = mor::Replace;
    struct Options {};
    explicit Reversed(const Options& /*options*/) {}
    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        const Index kept = step.step == 0 ? step.num_candidates() : 0;
        for (Index i = 0; i < kept; ++i) {
            step.kept[i] = kept - 1 - i;
        }
        return kept;
    }
};

/// Keeps one row more than there are.
struct TooMany {
    static constexpr std::string_view name = "test.too_many";
    using Merge = mor::Replace;
    struct Options {};
    explicit TooMany(const Options& /*options*/) {}
    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        std::iota(step.kept.data(), step.kept.data() + step.kept.size(), Index{0});
        return step.num_candidates() + 1;
    }
};

/// Keeps what it is told to by its capacity, forced or not.
struct HalfForced {
    static constexpr std::string_view name = "test.half_forced";
    using Merge = mor::Replace;
    struct Options {};
    explicit HalfForced(const Options& /*options*/) {}
    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        Index kept = 0;
        for (Index i = 0; i < step.num_candidates(); ++i) {
            if (step.step == 0 || step.hidden(i, 0) > 0) {
                step.kept[kept++] = i;
            }
        }
        return kept;
    }
};

/// Lets the layers after the recursion read the last step's keys, which not every row has.
struct CodaReads {
    static constexpr std::string_view name = "test.coda_reads";
    struct Options {};
    explicit CodaReads(const Options& /*options*/ = {}) {}
    [[nodiscard]] static Index key_layer(const mor::Layout& layout, Index layer) {
        return layer >= layout.end_of_recursion() ? layout.end_of_recursion() - 1 : layer;
    }
};

/// Forgets that the step before reaches the loss through `state`, too.
struct ForgetfulInjection : mor::InputInjection {
    template <mor::Backend B>
    struct Weights : mor::InputInjection::Weights<B> {
        using Base = mor::InputInjection::Weights<B>;
        using Base::Base;
        void backward(mor::Context<B>& context, Index step, mor::ConstMatrixView<B> entered,
                      const typename Base::Saved& saved, mor::MatrixView<B> dentered,
                      mor::MatrixView<B> dx) {
            const mor::MatrixView<B> copy = context.matrix(dx.rows(), dx.columns());
            mor::ops::copy<B>(context, dx, copy);
            Base::backward(context, step, entered, saved, dentered, copy);
        }
    };
};
struct ForgetfulArchitecture : mor::Recursive<mor::Cycle> {
    using Injection = ForgetfulInjection;
};

}  // namespace

TEST_CASE_TEMPLATE("every sharing conforms", S, mor::NoSharing, mor::Cycle, mor::MiddleCycle,
                   mor::Sequence, mor::MiddleSequence, mor::Sandwich, mor::Alternating) {
    CHECK(mor::testing::check_sharing<S>({}, counts) == Violations{});
}

TEST_CASE("every schedule conforms") {
    CHECK(mor::testing::check_schedule<mor::CapacitySchedule>({}, 4) == Violations{});
    CHECK(mor::testing::check_schedule<mor::CapacitySchedule>(
              {.capacities = {0.9, 0.5, 0.5}, .warmup_steps = 100}, 3) == Violations{});
    CHECK(mor::testing::check_schedule<mor::FixedCapacities<100, 67, 33>>({}, 3) == Violations{});
}

TEST_CASE_TEMPLATE("every cache policy conforms", C, mor::RecursionWiseCache,
                   mor::RecursiveSharingCache, mor::HybridCache) {
    for (const mor::Layout& layout :
         {mor::NoSharing{}.layout(4), mor::Cycle{{.num_recursions = 3}}.layout(6),
          mor::MiddleSequence{{.num_recursions = 2}}.layout(8)}) {
        CHECK(mor::testing::check_cache<C>({}, layout) == Violations{});
    }
}
TEST_CASE_TEMPLATE("every pattern of shared keys conforms", P, mor::Cycle, mor::Sequence,
                   mor::MiddleCycle, mor::MiddleSequence) {
    CHECK(mor::testing::check_cache<mor::PatternSharingCache<P>>(
              {.num_recursions = 2}, mor::NoSharing{}.layout(6)) == Violations{});
}

TEST_CASE_TEMPLATE(
    "every router conforms", R, mor::FixedDepth, mor::ExpertChoice,
    mor::ExpertChoiceRouter<mor::MlpNetwork, mor::AuxiliaryRouter<>>,
    mor::ExpertChoiceRouter<mor::LinearNetwork, mor::AuxiliaryLoss, mor::Independent>,
    mor::TokenChoice, mor::TokenChoiceRouter<mor::LinearNetwork, mor::LossFreeBalancing>,
    mor::RandomChoice, mor::RandomDepth, mor::AdaptiveComputationTime, mor::ExitGate) {
    Backend backend;
    CHECK(mor::testing::check_router<R>(backend) == Violations{});
}

TEST_CASE_TEMPLATE("every block, relaxation, injection and merge conforms", A, mor::Vanilla,
                   mor::MoRExpert<>, mor::MoRToken<>, MOR_HYBRID_ARCHITECTURES,
                   MOR_RELAXED_ARCHITECTURES, MOR_HALTING_ARCHITECTURES) {
    mor::Reference<double> backend;
    CHECK(mor::testing::check_architecture<A>(backend, 5 + (A::Sharing::name != "middle_cycle"),
                                              mor::test::small_options<A>()) == Violations{});
}

TEST_CASE_TEMPLATE("every backend conforms", B, mor::Cpu<float>, mor::Cpu<double>,
                   mor::Reference<float>) {
    B backend;
    mor::Reference<double> oracle;
    CHECK(mor::testing::check_backend(backend, oracle) == Violations{});
}

TEST_CASE("a backend whose products round their factors conforms, at its own tolerance") {
    mor::Cpu<float, mor::BFloat16> backend;
    mor::Reference<double> oracle;
    CHECK(mor::testing::check_backend(backend, oracle, 5e-2) == Violations{});
    CHECK(mor::testing::check_backend(backend, oracle) != Violations{});
}

TEST_CASE_TEMPLATE("every scheduling conforms", S, mor::DepthWise, mor::SequenceWise,
                   mor::StaticBatch) {
    mor::Cpu<float> backend{{.threads = 1}};
    CHECK(mor::testing::check_scheduling<S>(backend) == Violations{});
}

namespace {

/// Lets nobody in but the first.
struct Closed : mor::DepthWise {
    static bool admits(const mor::EngineLoad& /*load*/) { return false; }
};

}  // namespace

TEST_CASE("mistakes are noticed") {
    Backend backend;
    CHECK(mor::testing::check_sharing<Backwards>({}, counts).size() == 2);
    CHECK(mor::testing::check_schedule<Growing>({}, 3).size() == 1);
    CHECK(mor::testing::check_cache<LaterKeys>({}, mor::NoSharing{}.layout(4)).size() == 2);
    CHECK(mor::testing::check_router<FirstHalf>(backend).size() >= 1);
    CHECK(mor::testing::check_router<Reversed>(backend).front() ==
          "kept rows must be ascending and distinct");
    CHECK(mor::testing::check_router<TooMany>(backend).front().starts_with(
        "a router keeps at most the candidates that it sees"));
    CHECK(mor::testing::check_router<HalfForced>(backend) ==
          Violations{"where a depth is forced, a router keeps every candidate of earlier steps"});
    const mor::Layout middle = mor::MiddleCycle{{.num_recursions = 2}}.layout(6);
    CHECK(mor::testing::check_cache<CodaReads>({}, middle).size() == 1);
    CHECK(mor::testing::check_cache<CodaReads>({}, middle, mor::StepRows::all).empty());
    mor::Cpu<float> cpu{{.threads = 1}};
    CHECK(mor::testing::check_scheduling<Closed>(cpu).front() == "every request is answered");
    mor::Reference<double> exact;
    Violations found;
    mor::testing::detail::require_close(found, {1, 2.001}, {1, 2}, 1e-4, "logits");
    CHECK(found == Violations{"logits must be the oracle's"});
    CHECK(mor::testing::check_architecture<ForgetfulArchitecture>(exact, 3).size() > 3);
}
