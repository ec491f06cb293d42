// SPDX-License-Identifier: Apache-2.0
//
// An architecture is a struct of named choices. What it does not name it inherits from
// DefaultArchitecture; what it names wrongly is explained by one sentence a requirement.
#pragma once

#include <mor/cache/recursion_wise.hpp>
#include <mor/layers/decoder_block.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/recursion/capacity_schedule.hpp>
#include <mor/recursion/injection.hpp>
#include <mor/routing/expert_choice.hpp>
#include <mor/sharing/none.hpp>
#include <mor/sharing/recursive_layers.hpp>

namespace mor {

/// Middle-Cycle sharing with expert-choice routing: the paper's best.
struct DefaultArchitecture {
    using Sharing = MiddleCycle;
    using Router = ExpertChoice;
    using Schedule = CapacitySchedule;
    using Cache = RecursionWiseCache;
    using Relaxation = NoRelaxation;
    using Injection = NoInjection;
    template <Backend B, class Relaxation>
    using Block = DecoderBlock<B, Relaxation>;
};

template <class A>
concept NamesItsSlots = requires {
    typename A::Sharing;
    typename A::Router;
    typename A::Schedule;
    typename A::Cache;
    typename A::Relaxation;
    typename A::Injection;
};

/// The block of architecture A on backend B.
template <class A, class B>
using BlockOf = typename A::template Block<B, typename A::Relaxation>;

template <class A, class B>
concept HasBlock = Backend<B> && requires { typename BlockOf<A, B>; };

/// True for architectures without steps in the sense of the walk: nothing is routed or injected.
template <class Router, class Injection>
inline constexpr bool runs_unrolled =
    keeps_every_token<Router> && requires { requires Injection::is_empty; };

/// A recursion step must be a pass over the shared block, unless nothing happens between steps.
template <class Sharing, class Router, class Injection>
concept CanRoute = runs_unrolled<Router, Injection> || requires { requires Sharing::has_steps; };

/// Everything a Model needs of an architecture A on a backend B.
template <class A, class B>
concept Architecture =
    NamesItsSlots<A> && HasBlock<A, B> && SharingPolicy<typename A::Sharing> &&
    RouterPolicy<typename A::Router, B> && SchedulePolicy<typename A::Schedule> &&
    CachePolicy<typename A::Cache> && RelaxationPolicy<typename A::Relaxation, B> &&
    InjectionPolicy<typename A::Injection, B> && BlockLayer<BlockOf<A, B>, B> &&
    BlockForRelaxation<BlockOf<A, B>, typename A::Relaxation> &&
    CanRoute<typename A::Sharing, typename A::Router, typename A::Injection>;

namespace detail {

/// One sentence for each requirement that fails, so that the first error says what to write.
template <class A, class B>
consteval bool explain_architecture() {
    static_assert(Backend<B>,
                  "mor: Backend: the backend needs 'Element', 'Space' and a static 'name'. "
                  "See docs/concepts/backend.md");
    static_assert(NamesItsSlots<A>,
                  "mor: Architecture: an architecture must name Sharing, Router, Schedule, Cache, "
                  "Relaxation and "
                  "Injection; inherit mor::DefaultArchitecture to get defaults. See "
                  "docs/concepts/architecture.md");
    static_assert(
        HasBlock<A, B>,
        "mor: Architecture: an architecture must name 'template <mor::Backend B, class Relaxation> "
        "using "
        "Block'; inherit mor::DefaultArchitecture to get one. See docs/concepts/architecture.md");
    if constexpr (NamesItsSlots<A>) {
        using Sharing = typename A::Sharing;
        using Router = typename A::Router;
        static_assert(HasLayout<Sharing>,
                      "mor: SharingPolicy: Sharing needs 'Layout layout(Index num_layers) const'. "
                      "See docs/concepts/sharing_policy.md");
        static_assert(
            !HasLayout<Sharing> || SharingPolicy<Sharing>,
            "mor: SharingPolicy: Sharing needs 'static constexpr std::string_view name', 'static "
            "constexpr bool has_steps', an aggregate 'Options' and a constructor (const "
            "Options&). See docs/concepts/sharing_policy.md");
        static_assert(
            HasRouterOptions<Router>,
            "mor: RouterPolicy: Router needs an aggregate 'Options' and a constructor (const "
            "Options&). See docs/concepts/router_policy.md");
        static_assert(
            HasMerge<Router, B>,
            "mor: RouterPolicy: Router needs 'using Merge' = mor::Replace, mor::GateEachStep, "
            "mor::GateAtExit, mor::WeightedMean or another MergePolicy. See "
            "docs/concepts/router_policy.md");
        if constexpr (HasWeights<Router, B>) {
            static_assert(HasLearnedSelect<Router, B>,
                          "mor: RouterPolicy: Router needs 'Index select(Context<B>&, const "
                          "Weights<B>&, const "
                          "StepView<B>&, Record<B>&) const'. See docs/concepts/router_policy.md");
            static_assert(
                HasRouterBackward<Router, B>,
                "mor: RouterPolicy: Router needs 'void backward(Context<B>&, Weights<B>&, const "
                "StepView<B>&, ConstIndexView<B> kept, Record<B>&, const "
                "StepGradient<B>&) const'. See docs/concepts/router_policy.md");
        } else {
            static_assert(
                keeps_every_token<Router> || HasSelect<Router, B>,
                "mor: RouterPolicy: Router needs 'Index select(Context<B>&, const StepView<B>&) "
                "const'; a learned one needs Weights<B> and Record<B>. "
                "See docs/concepts/router_policy.md");
        }
        static_assert(
            requires {
                { Router::name } -> std::convertible_to<std::string_view>;
            },
            "mor: RouterPolicy: Router needs 'static constexpr std::string_view name'. "
            "See docs/concepts/router_policy.md");
        static_assert(SchedulePolicy<typename A::Schedule>,
                      "mor: SchedulePolicy: Schedule needs a static 'name', an aggregate "
                      "'Options', a constructor "
                      "(const Options&) and 'double capacity(Index step, Index num_steps, Index "
                      "training_step) const'. See docs/concepts/schedule_policy.md");
        static_assert(
            CachePolicy<typename A::Cache>,
            "mor: CachePolicy: Cache needs a static 'name', an aggregate 'Options', a constructor "
            "(const Options&) and 'Index key_layer(const Layout&, Index layer) const'. "
            "See docs/concepts/cache_policy.md");
        static_assert(
            !shares_keys_of_weights<typename A::Cache> || !std::same_as<Sharing, NoSharing>,
            "mor: CachePolicy: this Cache shares the keys of layers that share weights, "
            "and with mor::NoSharing none do; use mor::PatternSharingCache. "
            "See docs/concepts/cache_policy.md");
        static_assert(RelaxationPolicy<typename A::Relaxation, B>,
                      "mor: RelaxationPolicy: Relaxation needs a static 'name', 'Options' and the "
                      "parts 'Norm<B>', "
                      "'Projection<B>', 'Prompt<B>' and 'Output<B>'; inherit mor::NoRelaxation. "
                      "See docs/concepts/relaxation_policy.md");
        static_assert(InjectionPolicy<typename A::Injection, B>,
                      "mor: InjectionPolicy: Injection needs a static 'name', 'Options' and "
                      "'Weights<B>' with "
                      "'Saved', 'initialize', 'visit_parameters', 'forward' and 'backward'. "
                      "See docs/concepts/injection_policy.md");
        static_assert(
            !SharingPolicy<Sharing> || CanRoute<Sharing, Router, typename A::Injection>,
            "mor: CanRoute: this Sharing has no recursion steps, so Router must keep every token "
            "(mor::FixedDepth) and Injection be mor::NoInjection; steps need mor::Cycle "
            "or mor::MiddleCycle. "
            "See docs/concepts/architecture.md");
    }
    if constexpr (HasBlock<A, B>) {
        using Block = BlockOf<A, B>;
        static_assert(
            HasBlockForward<Block, B>,
            "mor: BlockLayer: Block needs 'Saved' and 'void forward(Context<B>&, MatrixView<B> x, "
            "const LayerInput<B>&, KeyValueSource auto&, Saved&) const'. See "
            "docs/concepts/block_layer.md");
        static_assert(
            !HasBlockForward<Block, B> || HasBlockBackward<Block, B>,
            "mor: BlockLayer: Block needs 'void backward(Context<B>&, const Saved&, const "
            "LayerInput<B>&, KeyValueGradientSource auto&, MatrixView<B> dx)'. "
            "See docs/concepts/block_layer.md");
        static_assert(
            !HasBlockForward<Block, B> || !HasBlockBackward<Block, B> || BlockLayer<Block, B>,
            "mor: BlockLayer: Block needs 'static constexpr std::string_view name', 'void "
            "initialize(Random&, "
            "double deviation)' and 'visit_parameters(visitor)'. "
            "See docs/concepts/block_layer.md");
        if constexpr (NamesItsSlots<A>) {
            static_assert(
                BlockForRelaxation<Block, typename A::Relaxation>,
                "mor: BlockLayer: Block needs a constructor (const LayerUses&, const ModelConfig&) "
                "and, unless Relaxation is mor::NoRelaxation, a third argument const "
                "Relaxation::Options&. See docs/concepts/block_layer.md");
        }
    }
    return true;
}

}  // namespace detail

/// The run-time half of an architecture: each slot's Options.
template <class A>
    requires NamesItsSlots<A>
struct ArchitectureOptions {
    typename A::Sharing::Options sharing{};
    typename A::Router::Options router{};
    typename A::Schedule::Options schedule{};
    typename A::Cache::Options cache{};
    typename A::Relaxation::Options relaxation{};
    typename A::Injection::Options injection{};
};

}  // namespace mor
