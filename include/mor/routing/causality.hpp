// SPDX-License-Identifier: Apache-2.0
//
// Top-k looks at the whole sequence, so at inference expert-choice needs a rule that does not. Two
// cures for that gap (paper, section 2.2.1 and appendix): train the router's own score to say
// "selected", or train a second router to predict the selection.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/router_loss.hpp>
#include <mor/recursion/step.hpp>
#include <mor/routing/network.hpp>
#include <mor/routing/scores.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <string>
#include <string_view>
#include <tuple>

namespace mor {

namespace detail {

/// The logit whose sigmoid is `threshold`. Throws ConfigError if it is not between 0 and 1.
[[nodiscard]] inline double logit_of(double threshold, std::string_view who) {
    check<ConfigError>(threshold > 0 && threshold < 1, "mor::", who, ": threshold is ", threshold,
                       ", expected a number between 0 and 1");
    return std::log(threshold / (1.0 - threshold));
}

}  // namespace detail

/// Stands in for top-k in a causal pass. It names itself in checkpoints by `suffix`, says with
/// `predicts_apart` whether its logits are others than the router's scores, is constructed from its
/// Options, and has for each backend a `Record<B>` of a step and `Weights<B>` of a step,
/// constructed from (name prefix, inputs, options), with `initialize` and `visit_parameters`. The
/// policy itself has
/// - `predict(context, weights, hidden, record) const`: what logits() needs; hidden [candidates,
///   hidden],
/// - `logits<B>(scores, record) const`: [candidates], from the router's scores [candidates, 1],
/// - `bound() const`: candidates whose logit is above it take the step,
/// - `backward(context, weights, hidden, scores, kept, record, gradient, dscores) const`: adds the
///   gradient of a loss of its own to those of its weights and to dscores [candidates, 1].
template <class P, class B>
concept CausalityPolicy =
    HasSuffixAndOptions<P> && HasRouterOptions<P> &&
    requires {
        typename P::template Weights<B>;
        typename P::template Record<B>;
        { P::predicts_apart } -> std::convertible_to<bool>;
    } && std::semiregular<typename P::template Record<B>> &&
    std::move_constructible<typename P::template Weights<B>> &&
    std::constructible_from<typename P::template Weights<B>, const std::string&, Index,
                            const typename P::Options&> &&
    requires(const P& policy, typename P::template Weights<B>& weights,
             const typename P::template Weights<B>& constant,
             typename P::template Record<B>& record, const typename P::template Record<B>& recorded,
             Random& random, detail::AnyVisitor visitor, Context<B>& context,
             ConstMatrixView<B> hidden, ConstMatrixView<B> scores, ConstIndexView<B> kept,
             const StepGradient<B>& gradient, MatrixView<B> dscores) {
        weights.initialize(random, 0.02);
        weights.visit_parameters(visitor);
        policy.predict(context, constant, hidden, record);
        { policy.template logits<B>(scores, recorded) } -> std::convertible_to<ConstVectorView<B>>;
        { policy.bound() } -> std::convertible_to<double>;
        policy.backward(context, weights, hidden, scores, kept, recorded, gradient, dscores);
    };

namespace detail {

/// One sentence for what is missing: that of the name and the options before a backend is known.
template <class P>
consteval bool explain_causality_options() {
    static_assert(
        HasSuffixAndOptions<P> && HasRouterOptions<P>,
        "mor: CausalityPolicy: a router's Causality needs 'static constexpr "
        "std::string_view suffix', an aggregate 'Options' with defaults and a constructor "
        "(const Options&). See docs/concepts/router_parts.md");
    return true;
}
template <class P, class B>
consteval bool explain_causality() {
    static_assert(
        CausalityPolicy<P, B>,
        "mor: CausalityPolicy: a router's Causality needs 'static constexpr bool predicts_apart', "
        "'Record<B>', 'Weights<B>' with a constructor (const std::string& prefix, Index inputs, "
        "const Options&), 'initialize' and 'visit_parameters', and 'void predict(Context<B>&, "
        "const Weights<B>&, ConstMatrixView<B> hidden, Record<B>&) const', 'template <Backend B> "
        "ConstVectorView<B> logits(ConstMatrixView<B> scores, const Record<B>&) const', 'double "
        "bound() const' and 'void backward(Context<B>&, Weights<B>&, ConstMatrixView<B> hidden, "
        "ConstMatrixView<B> scores, ConstIndexView<B> kept, const Record<B>&, const "
        "StepGradient<B>&, MatrixView<B> dscores) const'. See docs/concepts/router_parts.md");
    return true;
}

}  // namespace detail

/// A binary cross-entropy pulls the router's own score above 0 for selected tokens and below for
/// the others. It reaches the router and the trunk. The paper's best.
class AuxiliaryLoss {
public:
    static constexpr std::string_view suffix = "";
    static constexpr bool predicts_apart = false;  // its logits are the router's scores
    struct Options {
        double coefficient = 0.001;
        double threshold = 0.5;  // keep if sigmoid(score) is above it

        static constexpr auto fields() {
            return std::tuple{Field{"coefficient", &Options::coefficient},
                              Field{"threshold", &Options::threshold}};
        }
    };
    template <Backend B>
    struct Weights {
        Weights(const std::string& /*prefix*/, Index /*inputs*/, const Options& /*options*/) {}
        void initialize(Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
    };
    template <Backend B>
    struct Record {};

    /// Throws ConfigError if an option is out of range.
    explicit AuxiliaryLoss(const Options& options)
        : options_{options}, bound_{detail::logit_of(options.threshold, "AuxiliaryLoss")} {
        detail::check_not_negative(options.coefficient, "mor::AuxiliaryLoss: coefficient");
    }

    template <Backend B>
    void predict(Context<B>& /*context*/, const Weights<B>& /*weights*/,
                 ConstMatrixView<B> /*hidden*/, Record<B>& /*record*/) const {}

    /// What the causal rule keeps is above bound(). scores [candidates, 1].
    template <Backend B>
    [[nodiscard]] ConstVectorView<B> logits(ConstMatrixView<B> scores,
                                            const Record<B>& /*record*/) const {
        return scores.flat();
    }
    [[nodiscard]] double bound() const { return bound_; }

    template <Backend B>
    void backward(Context<B>& context, Weights<B>& /*weights*/, ConstMatrixView<B> /*hidden*/,
                  ConstMatrixView<B> scores, ConstIndexView<B> kept, const Record<B>& /*record*/,
                  const StepGradient<B>& gradient, MatrixView<B> dscores) const {
        const double mean =
            gradient.loss_scale / static_cast<double>(std::max<Index>(1, scores.rows()));
        ops::selection_loss<B>(context, scores.flat(), kept, options_.coefficient * mean,
                               dscores.flat(), mean,
                               gradient.losses->slot("selection", options_.coefficient));
    }

private:
    Options options_;
    double bound_;
};

/// A second router, fed the hidden states without a gradient to them, learns to predict the
/// selection; an optimiser group of its own trains it.
template <class Network = LinearNetwork>
class AuxiliaryRouter {
    static_assert(detail::explain_network_options<Network>());

public:
    static constexpr std::string_view suffix = ".auxiliary_router";
    static constexpr bool predicts_apart = true;
    struct Options {
        double coefficient = 1.0;
        double threshold = 0.5;  // keep if sigmoid(prediction) is above it
        typename Network::Options network = {};

        static constexpr auto fields() {
            return std::tuple{Field{"coefficient", &Options::coefficient},
                              Field{"threshold", &Options::threshold},
                              Field{"network", &Options::network}};
        }
    };

    /// "<prefix>auxiliary." and the network's names.
    template <Backend B>
    class Weights {
        static_assert(detail::explain_network<Network, B>());

    public:
        Weights(const std::string& prefix, Index inputs, const Options& options)
            : network_{prefix + "auxiliary.", inputs, 1, options.network} {
            network_.visit_parameters([](Parameter<B>& parameter) {
                parameter.set_group(OptimizerGroup::auxiliary_router);
            });
        }
        [[nodiscard]] auto& network() { return network_; }
        [[nodiscard]] const auto& network() const { return network_; }
        void initialize(Random& random, double deviation) {
            network_.initialize(random, deviation);
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            network_.visit_parameters(visitor);
        }

    private:
        typename Network::template Weights<B> network_;
    };
    template <Backend B>
    struct Record {
        MatrixView<B> predictions;  // [candidates, 1] logits
        typename Network::template Weights<B>::Saved saved;
    };

    /// Throws ConfigError if an option is out of range.
    explicit AuxiliaryRouter(const Options& options)
        : options_{options}, bound_{detail::logit_of(options.threshold, "AuxiliaryRouter")} {
        detail::check_not_negative(options.coefficient, "mor::AuxiliaryRouter: coefficient");
    }

    template <Backend B>
    void predict(Context<B>& context, const Weights<B>& weights, ConstMatrixView<B> hidden,
                 Record<B>& record) const {
        record.predictions = context.matrix(hidden.rows(), 1);
        weights.network().forward(context, hidden, record.predictions, record.saved);
    }

    template <Backend B>
    [[nodiscard]] ConstVectorView<B> logits(ConstMatrixView<B> /*scores*/,
                                            const Record<B>& record) const {
        return record.predictions.flat();
    }
    [[nodiscard]] double bound() const { return bound_; }

    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, ConstMatrixView<B> hidden,
                  ConstMatrixView<B> /*scores*/, ConstIndexView<B> kept, const Record<B>& record,
                  const StepGradient<B>& gradient, MatrixView<B> /*dscores*/) const {
        const Index rows = record.predictions.rows();
        const double mean = gradient.loss_scale / static_cast<double>(std::max<Index>(1, rows));
        const MatrixView<B> dpredictions = context.zero_matrix(rows, 1);
        ops::selection_loss<B>(context, record.predictions.flat(), kept,
                               options_.coefficient * mean, dpredictions.flat(), mean,
                               gradient.losses->slot("selection", options_.coefficient));
        weights.network().backward(context, hidden, record.saved, dpredictions, {});
    }

private:
    Options options_;
    double bound_;
};

}  // namespace mor
