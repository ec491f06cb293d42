// SPDX-License-Identifier: Apache-2.0
//
// Expert-choice routing (paper, section 2.2.1): every recursion step has a router of its own and
// takes the best-scored tokens of each sequence, as many as its capacity allows. Only tokens kept
// by one step are candidates of the next (hierarchical filtering).
#pragma once

#include <mor/core/joined.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/gate.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/scale.hpp>
#include <mor/routing/causality.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/network.hpp>
#include <mor/routing/scores.hpp>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

namespace mor {

/// Who may be chosen: the tokens that took the step before (paper: hierarchical filtering) ...
struct Hierarchical {
    static constexpr std::string_view suffix = "";
    static constexpr bool reconsiders_every_token = false;
};
/// ... or every token, in each step anew, as in Mixture-of-Depths (Raposo et al. 2024).
struct Independent {
    static constexpr std::string_view suffix = ".independent";
    static constexpr bool reconsiders_every_token = true;
};

/// `Network` scores the tokens; `Causality` stands in for top-k at inference.
template <class Network = LinearNetwork, class Causality = AuxiliaryLoss,
          class Candidates = Hierarchical>
class ExpertChoiceRouter {
    static_assert(detail::explain_network_options<Network>());
    static_assert(detail::explain_causality_options<Causality>());
    static constexpr std::string_view base = "expert_choice";

public:
    static constexpr std::string_view name =
        Joined<&base, &Network::suffix, &Causality::suffix, &Candidates::suffix>::text;
    static constexpr bool reconsiders_every_token = Candidates::reconsiders_every_token;
    using Merge = GateEachStep;

    struct Options {
        GateFunction gate = GateFunction::sigmoid;  // of a score; not softmax
        double alpha = 0.1;                         // gate = alpha * function(score)
        double temperature = 1.0;                   // hidden states are divided by it
        bool weighted = true;                       // false: every gate is 1
        double z_coefficient = 0.0;                 // of the mean squared score
        typename Network::Options network = {};
        typename Causality::Options causality = {};

        static constexpr auto fields() {
            using O = Options;
            return std::tuple{Field{"gate", &O::gate},
                              Field{"alpha", &O::alpha},
                              Field{"temperature", &O::temperature},
                              Field{"weighted", &O::weighted},
                              Field{"z_coefficient", &O::z_coefficient},
                              Field{"network", &O::network},
                              Field{"causality", &O::causality}};
        }
    };

    /// A router a step, "model.routers.<step>." and the names of its networks.
    template <Backend B>
    class Weights {
        static_assert(detail::explain_network<Network, B>());
        static_assert(detail::explain_causality<Causality, B>());

    public:
        struct Step {
            typename Network::template Weights<B> network;
            typename Causality::template Weights<B> causality;
        };

        Weights(const ModelConfig& config, Index num_steps, const Options& options) {
            for (Index step = 0; step < num_steps; ++step) {
                const std::string prefix = "model.routers." + std::to_string(step) + ".";
                using NetworkWeights = typename Network::template Weights<B>;
                using CausalityWeights = typename Causality::template Weights<B>;
                steps_.push_back({NetworkWeights(prefix, config.hidden_size, 1, options.network),
                                  CausalityWeights(prefix, config.hidden_size, options.causality)});
            }
        }
        [[nodiscard]] Step& at(Index step) { return steps_[static_cast<std::size_t>(step)]; }
        [[nodiscard]] const Step& at(Index step) const {
            return steps_[static_cast<std::size_t>(step)];
        }
        void initialize(Random& random, double deviation) {
            for (Step& step : steps_) {
                step.network.initialize(random, deviation);
                step.causality.initialize(random, deviation);
            }
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            for (Step& step : steps_) {
                step.network.visit_parameters(visitor);
                step.causality.visit_parameters(visitor);
            }
        }

    private:
        std::vector<Step> steps_;
    };

    /// What each step computed for its candidates.
    template <Backend B>
    struct Record {
        struct Step {
            ConstMatrixView<B> hidden;  // [candidates, hidden] over the temperature
            MatrixView<B> scores;       // [candidates, 1] raw
            MatrixView<B> gates;        // [candidates, 1]
            typename Network::template Weights<B>::Saved network;
            typename Causality::template Record<B> causality;
        };
        std::vector<Step> steps;  // [steps]

        /// [candidates, 1]
        [[nodiscard]] ConstMatrixView<B> scores_of(Index step) const {
            return steps[static_cast<std::size_t>(step)].scores;
        }
    };

    /// Throws ConfigError if an option is out of range.
    explicit ExpertChoiceRouter(const Options& options)
        : options_{options}, causality_{options.causality} {
        check<ConfigError>(options.gate != GateFunction::softmax,
                           "mor::ExpertChoice: gate is softmax, which is 1 for a single score");
        detail::check_positive(options.alpha, "mor::ExpertChoice: alpha");
        detail::check_positive(options.temperature, "mor::ExpertChoice: temperature");
        detail::check_not_negative(options.z_coefficient, "mor::ExpertChoice: z_coefficient");
    }

    /// Keeps max(1, floor(capacity * original length)) rows of each sequence; in a causal pass,
    /// those that the causal rule names. A step of capacity 1 keeps every candidate either way.
    template <Backend B>
    Index select(Context<B>& context, const Weights<B>& weights, const StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            record.steps.clear();
        }
        auto& own = record.steps.emplace_back();
        const Index candidates = step.num_candidates();
        own.hidden = detail::cooled(context, step.hidden, options_.temperature);
        own.scores = context.matrix(candidates, 1);
        own.gates = context.matrix(candidates, 1);
        weights.at(step.step).network.forward(context, own.hidden, own.scores, own.network);
        ops::gate<B>(context, options_.gate, own.scores, options_.alpha, own.gates);
        causality_.predict(context, weights.at(step.step).causality, step.hidden, own.causality);
        const Index kept =
            detail::keep_best<B>(context, step, own.scores.flat(),
                                 {causality_.template logits<B>(own.scores, own.causality),
                                  causality_.bound() + step.threshold_offset});
        const VectorView<B> weight = step.weight.slice(0, kept);
        if (options_.weighted) {
            ops::gather_rows<B>(context, own.gates, step.kept.slice(0, kept),
                                {weight.data(), {kept, 1}});
        } else {
            ops::fill<B>(context, 1.0, weight);
        }
        return kept;
    }

    /// Gradients of the gates, of the causal rule's training loss (the mean over candidates) and of
    /// the z-loss. They reach the router and the trunk.
    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, const StepView<B>& step,
                  ConstIndexView<B> kept, Record<B>& record,
                  const StepGradient<B>& gradient) const {
        auto& own = record.steps[static_cast<std::size_t>(step.step)];
        auto& mine = weights.at(step.step);
        const Index candidates = own.scores.rows();
        const MatrixView<B> dscores = context.zero_matrix(candidates, 1);
        if (options_.weighted) {
            const MatrixView<B> dgates = context.zero_matrix(candidates, 1);
            ops::scatter_rows<B>(context, {gradient.weight.data(), {kept.size(), 1}}, kept, dgates);
            ops::gate_backward<B>(context, options_.gate, own.gates, options_.alpha, dgates,
                                  dscores);
        }
        causality_.backward(context, mine.causality, step.hidden, own.scores, kept, own.causality,
                            gradient, dscores);
        detail::add_z_loss<B>(context, own.scores, options_.z_coefficient, gradient, dscores);
        detail::cooled_backward<B>(
            context, options_.temperature, gradient.hidden, [&](MatrixView<B> dhidden) {
                mine.network.backward(context, own.hidden, own.network, dscores, dhidden);
            });
    }

    [[nodiscard]] const Causality& causality() const { return causality_; }

private:
    Options options_;
    Causality causality_;
};

/// The paper's best: a linear router trained by the auxiliary loss.
using ExpertChoice = ExpertChoiceRouter<>;

}  // namespace mor
