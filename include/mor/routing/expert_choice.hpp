// SPDX-License-Identifier: Apache-2.0
//
// Expert-choice routing (paper, section 2.2.1): every recursion step has a router of its own and
// takes the best-scored tokens of each sequence, as many as its capacity allows. Only tokens kept
// by one step are candidates of the next (hierarchical filtering).
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/layers/linear.hpp>
#include <mor/ops/gate.hpp>
#include <mor/ops/select.hpp>
#include <mor/routing/concept.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

namespace mor {

class ExpertChoice {
public:
    static constexpr std::string_view name = "expert_choice";
    using Merge = GateEachStep;

    struct Options {
        double alpha = 0.1;                    // gate = alpha * sigmoid(score)
        double auxiliary_coefficient = 0.001;  // of the loss that makes the causal rule work
        double threshold = 0.5;                // causal rule: keep if sigmoid(score) is above it

        static constexpr auto fields() {
            return std::tuple{Field{"alpha", &Options::alpha},
                              Field{"auxiliary_coefficient", &Options::auxiliary_coefficient},
                              Field{"threshold", &Options::threshold}};
        }
    };

    /// One linear router a step, "model.routers.<step>.weight" [1, hidden].
    template <Backend B>
    class Weights {
    public:
        Weights(const ModelConfig& config, Index num_steps) {
            for (Index step = 0; step < num_steps; ++step) {
                routers_.emplace_back("model.routers." + std::to_string(step) + ".weight",
                                      config.hidden_size, Index{1});
            }
        }
        [[nodiscard]] Linear<B>& at(Index step) { return routers_[static_cast<std::size_t>(step)]; }
        [[nodiscard]] const Linear<B>& at(Index step) const {
            return routers_[static_cast<std::size_t>(step)];
        }
        void initialize(Random& random, double deviation) {
            for (Linear<B>& router : routers_) {
                router.initialize(random, deviation);
            }
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            for (Linear<B>& router : routers_) {
                router.visit_parameters(visitor);
            }
        }

    private:
        std::vector<Linear<B>> routers_;
    };

    /// The raw scores of each step, [candidates].
    template <Backend B>
    struct Record {
        std::vector<MatrixView<B>> scores;  // [steps], each [candidates, 1]
    };

    /// Throws ConfigError if an option is out of range.
    explicit ExpertChoice(const Options& options) : options_{options} {
        check<ConfigError>(options.alpha > 0, "mor::ExpertChoice: alpha is ", options.alpha,
                           ", expected a positive number");
        check<ConfigError>(options.auxiliary_coefficient >= 0,
                           "mor::ExpertChoice: auxiliary_coefficient is ",
                           options.auxiliary_coefficient, ", expected 0 or more");
        check<ConfigError>(options.threshold > 0 && options.threshold < 1,
                           "mor::ExpertChoice: threshold is ", options.threshold,
                           ", expected a number between 0 and 1");
    }

    /// Keeps max(1, floor(capacity * original length)) rows of each sequence; in a causal pass,
    /// those above the threshold. A step of capacity 1 keeps every candidate either way.
    template <Backend B>
    Index select(Context<B>& context, const Weights<B>& weights, const StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            record.scores.clear();
        }
        const MatrixView<B> scores = context.matrix(step.num_candidates(), 1);
        record.scores.push_back(scores);
        weights.at(step.step).forward(context, step.hidden, scores);

        const Index kept = choose(context, scores.flat(), step);
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const MatrixView<B> kept_scores = context.matrix(kept, 1);
        ops::gather_rows<B>(context, scores, step.kept.slice(0, kept), kept_scores);
        ops::sigmoid_gate<B>(context, kept_scores.flat(), options_.alpha,
                             step.weight.slice(0, kept));
        return kept;
    }

    /// Gradient of the gate, and of the auxiliary loss: the mean over candidates of the binary
    /// cross-entropy between score and selection. Both reach the router and the trunk.
    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, const StepView<B>& step,
                  ConstIndexView<B> kept, Record<B>& record,
                  const StepGradient<B>& gradient) const {
        const MatrixView<B> scores = record.scores[static_cast<std::size_t>(step.step)];
        const MatrixView<B> dscores = context.zero_matrix(scores.rows(), 1);
        ops::sigmoid_gate_backward<B>(context, scores.flat(), options_.alpha, kept, gradient.weight,
                                      dscores.flat());
        const double mean = 1.0 / static_cast<double>(std::max<Index>(1, scores.rows()));
        const double loss = ops::selection_loss<B>(
            context, scores.flat(), kept,
            options_.auxiliary_coefficient * gradient.loss_scale * mean, dscores.flat());
        add_loss(*gradient.losses, "selection", loss * mean * gradient.loss_scale,
                 options_.auxiliary_coefficient);
        weights.at(step.step).backward(context, step.hidden, dscores, gradient.hidden,
                                       Write::accumulate);
    }

private:
    template <Backend B>
    [[nodiscard]] Index choose(Context<B>& context, ConstVectorView<B> scores,
                               const StepView<B>& step) const {
        if (step.decision == Decision::causal && step.capacity < 1.0) {
            const double bound = std::log(options_.threshold / (1.0 - options_.threshold));
            return ops::select_greater<B>(context, scores, bound, step.kept);
        }
        const IndexView<B> counts = context.indices(step.entered.num_sequences());
        ops::capacity_counts<B>(context, step.entered.offsets, step.capacity, counts);
        return ops::top_k<B>(context, scores, step.rows.offsets, counts, step.kept);
    }

    Options options_;
};

}  // namespace mor
