// SPDX-License-Identifier: Apache-2.0
//
// What a router must be. The least one is a class with a name, Options, a Merge and `select`; a
// learned one has weights, keeps a record of a pass, and takes gradients; one that keeps every
// token selects nothing.
#pragma once

#include <mor/core/random.hpp>
#include <mor/layers/concept.hpp>
#include <mor/model/config.hpp>
#include <mor/recursion/merge.hpp>
#include <mor/recursion/step.hpp>

#include <concepts>
#include <string_view>

namespace mor {

template <class R>
concept HasRouterOptions =
    requires { typename R::Options; } && std::default_initializable<typename R::Options> &&
    std::constructible_from<R, const typename R::Options&>;

template <class R, class B>
concept HasMerge = requires { typename R::Merge; } && MergePolicy<typename R::Merge, B>;

/// `Index select(Context<B>&, const StepView<B>&) const`: writes the kept candidates, ascending,
/// and returns how many.
template <class R, class B>
concept HasSelect = requires(const R& router, Context<B>& context, const StepView<B>& step) {
    { router.select(context, step) } -> std::same_as<Index>;
};

/// A learned router: it has `Weights<B>`, constructed from (const ModelConfig&, Index num_steps,
/// const Options&), with `initialize(Random&, double)` and `visit_parameters(visitor)`, and a
/// `Record<B>` of a pass.
template <class R, class B>
concept HasWeights =
    requires {
        typename R::template Weights<B>;
        typename R::template Record<B>;
    } &&
    std::constructible_from<typename R::template Weights<B>, const ModelConfig&, Index,
                            const typename R::Options&> &&
    requires(typename R::template Weights<B>& weights, Random& random, detail::AnyVisitor visitor) {
        weights.initialize(random, 0.02);
        weights.visit_parameters(visitor);
    };

/// `Index select(Context<B>&, const Weights<B>&, const StepView<B>&, Record<B>&) const`
template <class R, class B>
concept HasLearnedSelect =
    HasWeights<R, B> && requires(const R& router, Context<B>& context, const StepView<B>& step,
                                 const typename R::template Weights<B>& weights,
                                 typename R::template Record<B>& record) {
        { router.select(context, weights, step, record) } -> std::same_as<Index>;
    };

/// `void backward(Context<B>&, Weights<B>&, const StepView<B>&, ConstIndexView<B> kept,
/// Record<B>&, const StepGradient<B>&) const`
template <class R, class B>
concept HasRouterBackward =
    HasWeights<R, B> &&
    requires(const R& router, Context<B>& context, const StepView<B>& step,
             typename R::template Weights<B>& weights, ConstIndexView<B> kept,
             typename R::template Record<B>& record, const StepGradient<B>& gradient) {
        router.backward(context, weights, step, kept, record, gradient);
    };

template <class R, class B>
concept LearnedRouter = HasLearnedSelect<R, B> && HasRouterBackward<R, B>;

/// True for routers that keep every token in every step, so that nothing is gathered at all.
template <class R>
inline constexpr bool keeps_every_token = requires { requires R::keeps_every_token; };

/// True for routers whose every step chooses among all rows, not only among those that took the
/// step before.
template <class R>
inline constexpr bool reconsiders_every_token = requires { requires R::reconsiders_every_token; };

/// What the parts of a router have in common: a `suffix`, by which the router's name tells them,
/// and Options. See RouterNetwork, CausalityPolicy, BalancingPolicy.
template <class P>
concept HasSuffixAndOptions = requires { typename P::Options; } &&
                              std::default_initializable<typename P::Options> && requires {
                                  { P::suffix } -> std::same_as<const std::string_view&>;
                              };

/// Decides, before each recursion step, which candidates take it.
template <class R, class B>
concept RouterPolicy = HasRouterOptions<R> && HasMerge<R, B> && requires {
    { R::name } -> std::convertible_to<std::string_view>;
} && (keeps_every_token<R> || HasSelect<R, B> || LearnedRouter<R, B>);

}  // namespace mor
