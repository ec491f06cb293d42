// SPDX-License-Identifier: Apache-2.0
//
// Two ways to keep token-choice from sending every token to the same depth (paper, section 2.2.1).
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/core/reflect.hpp>
#include <mor/core/tensor.hpp>
#include <mor/ops/router_loss.hpp>
#include <mor/ops/select.hpp>
#include <mor/recursion/step.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/scores.hpp>

#include <concepts>
#include <cstddef>
#include <numeric>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace mor {

/// Evens out the depths that token-choice gives. It names itself in checkpoints by `suffix`, is
/// constructed from its Options, and has for each backend `Weights<B>`, constructed from the number
/// of steps, with `visit_parameters` and
/// - `bias() const`: [steps] added to the gates when the best is chosen, or empty,
/// - `reset()`: called while balancing warms up, after each backward pass.
/// The policy itself has
/// - `backward(context, weights, gate, best, gradient, dgate) const`: adds the gradient of its own
///   loss to dgate [rows, steps], or counts the chosen steps, best [rows],
/// - `after_update(weights) const`: called after each update of the model's weights.
template <class P, class B>
concept BalancingPolicy =
    HasSuffixAndOptions<P> && HasRouterOptions<P> &&
    requires { typename P::template Weights<B>; } &&
    std::move_constructible<typename P::template Weights<B>> &&
    std::constructible_from<typename P::template Weights<B>, Index> &&
    requires(const P& policy, typename P::template Weights<B>& weights,
             const typename P::template Weights<B>& constant, detail::AnyVisitor visitor,
             Context<B>& context, ConstMatrixView<B> gate, ConstIndexView<B> best,
             const StepGradient<B>& gradient, MatrixView<B> dgate) {
        weights.visit_parameters(visitor);
        { constant.bias() } -> std::convertible_to<ConstVectorView<B>>;
        weights.reset();
        policy.backward(context, weights, gate, best, gradient, dgate);
        policy.after_update(weights);
    };

namespace detail {

/// One sentence for what is missing: that of the name and the options before a backend is known.
template <class P>
consteval bool explain_balancing_options() {
    static_assert(
        HasSuffixAndOptions<P> && HasRouterOptions<P>,
        "mor: BalancingPolicy: a router's Balancing needs 'static constexpr "
        "std::string_view suffix', an aggregate 'Options' with defaults and a constructor "
        "(const Options&). See docs/concepts/router_parts.md");
    return true;
}
template <class P, class B>
consteval bool explain_balancing() {
    static_assert(
        BalancingPolicy<P, B>,
        "mor: BalancingPolicy: a router's Balancing needs 'Weights<B>' with a constructor (Index "
        "num_steps), 'visit_parameters', 'ConstVectorView<B> bias() const' and 'void reset()', and "
        "'void backward(Context<B>&, Weights<B>&, ConstMatrixView<B> gate, ConstIndexView<B> best, "
        "const StepGradient<B>&, MatrixView<B> dgate) const' and 'void after_update(Weights<B>&) "
        "const'. See docs/concepts/router_parts.md");
    return true;
}

}  // namespace detail

/// A loss on the product of each depth's share of tokens and its mean gate.
class BalancingLoss {
public:
    static constexpr std::string_view suffix = "";
    struct Options {
        double coefficient = 0.1;

        static constexpr auto fields() {
            return std::tuple{Field{"coefficient", &Options::coefficient}};
        }
    };
    template <Backend B>
    struct Weights {
        explicit Weights(Index /*num_steps*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
        /// Added to the gates when the best is chosen; empty.
        [[nodiscard]] ConstVectorView<B> bias() const { return {}; }
        void reset() {}
    };

    /// Throws ConfigError if the coefficient is out of range.
    explicit BalancingLoss(const Options& options) : options_{options} {
        detail::check_not_negative(options.coefficient, "mor::BalancingLoss: coefficient");
    }

    /// Adds the gradient of the loss to dgate [rows, steps].
    template <Backend B>
    void backward(Context<B>& context, Weights<B>& /*weights*/, ConstMatrixView<B> gate,
                  ConstIndexView<B> best, const StepGradient<B>& gradient,
                  MatrixView<B> dgate) const {
        const double scale = gradient.loss_scale;
        ops::balancing_loss<B>(context, gate, best, options_.coefficient * scale, dgate, scale,
                               gradient.losses->slot("balancing", options_.coefficient));
    }

    template <Backend B>
    void after_update(Weights<B>& /*weights*/) const {}

private:
    Options options_;
};

/// No loss: a bias on each depth, which takes part in the choice and not in the gate, moves after
/// every update against the load of that update (Wang et al. 2024).
class LossFreeBalancing {
public:
    static constexpr std::string_view suffix = ".loss_free";
    struct Options {
        double rate = 0.001;  // by which a bias moves

        static constexpr auto fields() { return std::tuple{Field{"rate", &Options::rate}}; }
    };

    /// "model.router.bias" [steps], not trained by gradients, and the loads since the last update.
    template <Backend B>
    class Weights {
    public:
        explicit Weights(Index num_steps)
            : bias_{"model.router.bias", {num_steps}, WeightDecay::no}, loads_{{num_steps}} {
            bias_.set_group(OptimizerGroup::none);
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            visitor(bias_);
        }
        [[nodiscard]] ConstVectorView<B> bias() const { return bias_.value(); }
        void reset() { bias_.fill(0.0); }

        /// [steps] to add to: how many rows chose each.
        [[nodiscard]] IndexView<B> loads() { return loads_.view(); }

        /// bias += rate * sign(mean load - load), and the loads begin again.
        void move(double rate) {
            const std::vector<Index> loads = to_host(loads_.view());
            const Index total = std::accumulate(loads.begin(), loads.end(), Index{0});
            const Index depths = std::ssize(loads);
            auto values = to_host(std::as_const(bias_).value());
            for (std::size_t i = 0; i < loads.size(); ++i) {
                const Index missing = total - depths * loads[i];
                const double sign = missing > 0 ? 1.0 : missing < 0 ? -1.0 : 0.0;
                values[i] += static_cast<typename B::Element>(rate * sign);
            }
            from_host(bias_.value(), values);
            loads_.zero();
        }

    private:
        Parameter<B> bias_;
        Tensor<Index, 1, typename B::Space> loads_;
    };

    /// Throws ConfigError if the rate is out of range.
    explicit LossFreeBalancing(const Options& options) : options_{options} {
        detail::check_not_negative(options.rate, "mor::LossFreeBalancing: rate");
    }

    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, ConstMatrixView<B> /*gate*/,
                  ConstIndexView<B> best, const StepGradient<B>& /*gradient*/,
                  MatrixView<B> /*dgate*/) const {
        ops::count_values<B>(context, best, weights.loads());
    }

    template <Backend B>
    void after_update(Weights<B>& weights) const {
        weights.move(options_.rate);
    }

private:
    Options options_;
};

}  // namespace mor
