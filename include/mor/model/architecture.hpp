// SPDX-License-Identifier: Apache-2.0
//
// An architecture is a struct of named choices. What it does not name it inherits from
// DefaultArchitecture; what it names wrongly is explained by one sentence a requirement.
#pragma once

#include <mor/cache/recursion_wise.hpp>
#include <mor/layers/decoder_block.hpp>
#include <mor/recursion/capacity_schedule.hpp>
#include <mor/routing/expert_choice.hpp>
#include <mor/sharing/recursive_layers.hpp>

namespace mor {

/// Middle-Cycle sharing with expert-choice routing: the paper's best.
struct DefaultArchitecture {
    using Sharing = MiddleCycle;
    using Router = ExpertChoice;
    using Schedule = CapacitySchedule;
    using Cache = RecursionWiseCache;
    template <Backend B>
    using Block = DecoderBlock<B>;
};

template <class A>
concept NamesItsSlots = requires {
    typename A::Sharing;
    typename A::Router;
    typename A::Schedule;
    typename A::Cache;
};

template <class A, class B>
concept HasBlock = Backend<B> && requires { typename A::template Block<B>; };

/// A recursion step must be a pass over the shared block, unless no token ever leaves.
template <class Sharing, class Router>
concept CanRoute = keeps_every_token<Router> || requires { requires Sharing::has_steps; };

/// Everything a Model needs of an architecture A on a backend B.
template <class A, class B>
concept Architecture =
    NamesItsSlots<A> && HasBlock<A, B> && SharingPolicy<typename A::Sharing> &&
    RouterPolicy<typename A::Router, B> && SchedulePolicy<typename A::Schedule> &&
    CachePolicy<typename A::Cache> && BlockLayer<typename A::template Block<B>, B> &&
    CanRoute<typename A::Sharing, typename A::Router>;

namespace detail {

/// One sentence for each requirement that fails, so that the first error says what to write.
template <class A, class B>
consteval bool explain_architecture() {
    static_assert(Backend<B>,
                  "mor: the backend needs 'Element', 'Space' and a static 'name'. "
                  "See docs/concepts.md#backend");
    static_assert(NamesItsSlots<A>,
                  "mor: an architecture must name Sharing, Router, Schedule and Cache; inherit "
                  "mor::DefaultArchitecture to get defaults. See docs/concepts.md#architecture");
    static_assert(HasBlock<A, B>,
                  "mor: an architecture must name 'template <mor::Backend B> using Block'; inherit "
                  "mor::DefaultArchitecture to get one. See docs/concepts.md#architecture");
    if constexpr (NamesItsSlots<A>) {
        using Sharing = typename A::Sharing;
        using Router = typename A::Router;
        static_assert(HasLayout<Sharing>,
                      "mor: Sharing needs 'Layout layout(Index num_layers) const'. "
                      "See docs/concepts.md#sharingpolicy");
        static_assert(!HasLayout<Sharing> || SharingPolicy<Sharing>,
                      "mor: Sharing needs 'static constexpr std::string_view name', 'static "
                      "constexpr bool has_steps', an aggregate 'Options' and a constructor (const "
                      "Options&). See docs/concepts.md#sharingpolicy");
        static_assert(HasRouterOptions<Router>,
                      "mor: Router needs an aggregate 'Options' and a constructor (const "
                      "Options&). See docs/concepts.md#routerpolicy");
        static_assert(HasMerge<Router>,
                      "mor: Router needs 'using Merge' = mor::Replace, mor::GateEachStep or "
                      "mor::GateAtExit. See docs/concepts.md#routerpolicy");
        if constexpr (HasWeights<Router, B>) {
            static_assert(HasLearnedSelect<Router, B>,
                          "mor: Router needs 'Index select(Context<B>&, const Weights<B>&, const "
                          "StepView<B>&, Record<B>&) const'. See docs/concepts.md#routerpolicy");
            static_assert(HasRouterBackward<Router, B>,
                          "mor: Router needs 'void backward(Context<B>&, Weights<B>&, const "
                          "StepView<B>&, ConstIndexView<B> kept, Record<B>&, const "
                          "StepGradient<B>&) const'. See docs/concepts.md#routerpolicy");
        } else {
            static_assert(keeps_every_token<Router> || HasSelect<Router, B>,
                          "mor: Router needs 'Index select(Context<B>&, const StepView<B>&) "
                          "const'; a learned one needs Weights<B> and Record<B>. "
                          "See docs/concepts.md#routerpolicy");
        }
        static_assert(
            requires {
                { Router::name } -> std::convertible_to<std::string_view>;
            },
            "mor: Router needs 'static constexpr std::string_view name'. "
            "See docs/concepts.md#routerpolicy");
        static_assert(SchedulePolicy<typename A::Schedule>,
                      "mor: Schedule needs a static 'name', an aggregate 'Options', a constructor "
                      "(const Options&) and 'double capacity(Index step, Index num_steps, Index "
                      "training_step) const'. See docs/concepts.md#schedulepolicy");
        static_assert(CachePolicy<typename A::Cache>,
                      "mor: Cache needs a static 'name', an aggregate 'Options', a constructor "
                      "(const Options&) and 'Index key_layer(const Layout&, Index layer) const'. "
                      "See docs/concepts.md#cachepolicy");
        static_assert(!SharingPolicy<Sharing> || CanRoute<Sharing, Router>,
                      "mor: this Sharing has no recursion steps, so Router must keep every token "
                      "(mor::FixedDepth); routing needs mor::Cycle or mor::MiddleCycle. "
                      "See docs/concepts.md#architecture");
    }
    if constexpr (HasBlock<A, B>) {
        using Block = typename A::template Block<B>;
        static_assert(HasBlockForward<Block, B>,
                      "mor: Block needs 'Saved' and 'void forward(Context<B>&, MatrixView<B> x, "
                      "ConstIndexView<B> positions, const Rotary<B>&, KeyValueSource auto&, "
                      "Saved&) const'. See docs/concepts.md#blocklayer");
        static_assert(!HasBlockForward<Block, B> || HasBlockBackward<Block, B>,
                      "mor: Block needs 'void backward(Context<B>&, const Saved&, const "
                      "Rotary<B>&, const KeyValueGradients<B>&, bool owns, MatrixView<B> dx)'. "
                      "See docs/concepts.md#blocklayer");
        static_assert(
            !HasBlockForward<Block, B> || !HasBlockBackward<Block, B> || BlockLayer<Block, B>,
            "mor: Block needs 'static constexpr std::string_view name', a constructor "
            "(const std::string& prefix, const ModelConfig&), 'void initialize(Random&, "
            "double deviation)' and 'visit_parameters(visitor)'. "
            "See docs/concepts.md#blocklayer");
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
};

}  // namespace mor
