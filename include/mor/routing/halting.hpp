// SPDX-License-Identifier: Apache-2.0
//
// Halting: before each step a gate says how much of the output that step should be; a token leaves
// when nothing is left to give. The output is the weighted mean of the states it went through.
// Causal by construction.
#pragma once

#include <mor/core/joined.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/gate.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/halting.hpp>
#include <mor/ops/rows.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/network.hpp>
#include <mor/routing/scores.hpp>

#include <algorithm>
#include <string_view>
#include <tuple>
#include <vector>

namespace mor {

/// Adaptive Computation Time (Graves 2016; Dehghani et al. 2018, "Universal Transformers"): the
/// probabilities add up, and a cost on the number of steps makes the model stop.
struct PonderTime {
    static constexpr std::string_view suffix = ".ponder_time";
    static constexpr HaltingRule rule = HaltingRule::accumulate;
    struct Options {
        double threshold = 0.99;    // a token halts when its probabilities reach it
        double coefficient = 0.01;  // of the ponder cost, steps and remainder

        static constexpr auto fields() {
            return std::tuple{Field{"threshold", &Options::threshold},
                              Field{"coefficient", &Options::coefficient}};
        }
    };
    static double threshold(const Options& options, Decision /*decision*/) {
        return options.threshold;
    }
    template <Backend B>
    static void cost(Context<B>& context, const Options& options, const Halting<B>& halting,
                     ConstVectorView<B> probability, ConstVectorView<B> before,
                     ConstVectorView<B> /*share*/, double mean, const StepGradient<B>& gradient,
                     VectorView<B> dshare) {
        ops::ponder_cost<B>(context, halting, probability, before, options.coefficient * mean,
                            dshare, mean, gradient.losses->slot("ponder", options.coefficient));
    }
};

/// An exit gate (Zhu et al. 2025, "Ouro", section 3): each step takes its probability of what is
/// left. In training every token takes every step and the entropy of its shares is rewarded; in a
/// causal pass it exits once its shares reach a quantile.
struct ExitDistribution {
    static constexpr std::string_view suffix = ".exit_distribution";
    static constexpr HaltingRule rule = HaltingRule::survive;
    struct Options {
        double quantile = 0.9;      // of the exit distribution, at inference; 1: never early
        double coefficient = 0.05;  // of the negative entropy

        static constexpr auto fields() {
            return std::tuple{Field{"quantile", &Options::quantile},
                              Field{"coefficient", &Options::coefficient}};
        }
    };
    static double threshold(const Options& options, Decision decision) {
        return decision == Decision::causal ? options.quantile : 1.0;
    }
    template <Backend B>
    static void cost(Context<B>& context, const Options& options, const Halting<B>& /*halting*/,
                     ConstVectorView<B> /*probability*/, ConstVectorView<B> /*before*/,
                     ConstVectorView<B> share, double mean, const StepGradient<B>& gradient,
                     VectorView<B> dshare) {
        ops::share_entropy<B>(context, share, options.coefficient * mean, dshare, mean,
                              gradient.losses->slot("exit_negentropy", options.coefficient));
    }
};

/// `Rule` says what the gate's probability means and what is charged for it.
template <class Rule, class Network = LinearNetwork>
class HaltingRouter {
    static_assert(detail::explain_network_options<Network>());
    static constexpr std::string_view base = "halting";

public:
    static constexpr std::string_view name = Joined<&base, &Rule::suffix, &Network::suffix>::text;
    static constexpr bool keeps_row_state = true;
    using Merge = WeightedMean;

    struct Options {
        typename Network::Options network = {};
        typename Rule::Options rule = {};

        static constexpr auto fields() {
            return std::tuple{Field{"network", &Options::network}, Field{"rule", &Options::rule}};
        }
    };

    /// One gate for all steps, "model.router." and the names of its network.
    template <Backend B>
    struct Weights {
        static_assert(detail::explain_network<Network, B>());

        typename Network::template Weights<B> network;

        Weights(const ModelConfig& config, Index /*num_steps*/, const Options& options)
            : network{"model.router.", config.hidden_size, 1, options.network} {}
        void initialize(Random& random, double deviation) { network.initialize(random, deviation); }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            network.visit_parameters(visitor);
        }
    };

    template <Backend B>
    struct Record {
        struct Step {
            Halting<B> halting;
            ConstIndexView<B> active;   // [kept] rows of the recursion's input
            ConstMatrixView<B> hidden;  // [kept, hidden]
            MatrixView<B> scores;       // [kept, 1]
            MatrixView<B> probability;  // [kept, 1]
            VectorView<B> before;       // [kept] what the row had spent before the step
            ConstVectorView<B> share;   // [kept]
            typename Network::template Weights<B>::Saved network;
        };
        VectorView<B> spent;      // [rows]
        VectorView<B> carry;      // [rows] of the backward pass
        std::vector<Step> steps;  // [steps]

        /// [kept, 1]
        [[nodiscard]] ConstMatrixView<B> scores_of(Index step) const {
            return steps[static_cast<std::size_t>(step)].scores;
        }
    };

    /// Throws ConfigError if an option is out of range.
    explicit HaltingRouter(const Options& options) : options_{options} {
        const double threshold = Rule::threshold(options.rule, Decision::causal);
        check<ConfigError>(threshold > 0 && threshold <= 1, "mor::", name, ": the threshold is ",
                           threshold, ", expected a number above 0 and at most 1");
        detail::check_not_negative(options.rule.coefficient, "mor::HaltingRouter: coefficient");
    }

    /// Keeps the tokens that are not over; writes their shares as weights.
    template <Backend B>
    Index select(Context<B>& context, const Weights<B>& weights, const StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            record.steps.clear();
            record.spent = context.zero_vector(step.num_candidates());
            record.carry = {};
        }
        Index kept = step.num_candidates();
        // Nothing is spent in step 0; later also those whose shares, rounded, add up to 1.
        if (step.step == 0 || step.must_keep_all()) {
            ops::number_rows<B>(context, step.kept);
        } else {
            kept = ops::select_unspent<B>(context, record.spent, step.source, step.kept);
        }
        auto& own = record.steps.emplace_back();
        own.halting = {.rule = Rule::rule,
                       .threshold = Rule::threshold(options_.rule, step.decision),
                       .is_last = step.is_last};
        if (step.is_last_of.size() > 0) {
            const IndexView<B> is_last_of = context.indices(kept);
            ops::compose_indices<B>(context, step.is_last_of, step.kept.slice(0, kept), is_last_of);
            own.halting.is_last_of = is_last_of;
        }
        if (step.forced_depth > 0) {
            // Shares of what is left go on to the last step.
            own.halting.rule = HaltingRule::survive;
            own.halting.threshold = 2.0;
        }
        const IndexView<B> active = context.indices(kept);
        ops::compose_indices<B>(context, step.source, step.kept.slice(0, kept), active);
        own.active = active;
        const MatrixView<B> hidden = context.matrix(kept, step.hidden.columns());
        ops::gather_rows<B>(context, step.hidden, step.kept.slice(0, kept), hidden);
        own.hidden = hidden;
        own.scores = context.matrix(kept, 1);
        own.probability = context.matrix(kept, 1);
        own.before = context.vector(kept);
        weights.network.forward(context, own.hidden, own.scores, own.network);
        ops::gate<B>(context, GateFunction::sigmoid, own.scores, 1.0, own.probability);
        const VectorView<B> share = step.weight.slice(0, kept);
        ops::halt<B>(context, own.halting, own.probability.flat(), own.active, record.spent,
                     own.before, share);
        own.share = share;
        return kept;
    }

    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, const StepView<B>& step,
                  ConstIndexView<B> kept, Record<B>& record,
                  const StepGradient<B>& gradient) const {
        auto& own = record.steps[static_cast<std::size_t>(step.step)];
        const Index count = own.scores.rows();
        if (record.carry.data() == nullptr) {
            record.carry = context.zero_vector(record.spent.size());
        }
        const double mean =
            gradient.loss_scale / static_cast<double>(std::max<Index>(1, record.spent.size()));
        const MatrixView<B> dshare = context.matrix(count, 1);
        ops::copy<B>(context, {gradient.weight.data(), {count, 1}}, dshare);
        Rule::template cost<B>(context, options_.rule, own.halting, own.probability.flat(),
                               own.before, own.share, mean, gradient, dshare.flat());
        const MatrixView<B> dprobability = context.matrix(count, 1);
        ops::halt_backward<B>(context, own.halting, own.probability.flat(), own.active, own.before,
                              dshare.flat(), record.carry, dprobability.flat());
        const MatrixView<B> dscores = context.zero_matrix(count, 1);
        ops::gate_backward<B>(context, GateFunction::sigmoid, own.probability, 1.0, dprobability,
                              dscores);
        const MatrixView<B> dhidden = context.zero_matrix(count, own.hidden.columns());
        weights.network.backward(context, own.hidden, own.network, dscores, dhidden);
        ops::scatter_add_rows<B>(context, dhidden, kept, gradient.hidden);
    }

private:
    Options options_;
};

using AdaptiveComputationTime = HaltingRouter<PonderTime>;
using ExitGate = HaltingRouter<ExitDistribution>;

}  // namespace mor
