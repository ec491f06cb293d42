// SPDX-License-Identifier: Apache-2.0
//
// Token-choice routing (paper, section 2.2.1): one router, before the first step, gives every
// token its depth for good. Causal by construction.
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/layers/linear.hpp>
#include <mor/ops/gate.hpp>
#include <mor/ops/select.hpp>
#include <mor/routing/concept.hpp>

#include <algorithm>
#include <tuple>

namespace mor {

class TokenChoice {
public:
    static constexpr std::string_view name = "token_choice";
    using Merge = GateAtExit;

    struct Options {
        double alpha = 1.0;                  // gate = alpha * softmax(scores)
        double balancing_coefficient = 0.1;  // of the loss that evens out the depths
        double z_coefficient = 0.0;          // of the router z-loss; the paper uses 1e-5

        static constexpr auto fields() {
            return std::tuple{Field{"alpha", &Options::alpha},
                              Field{"balancing_coefficient", &Options::balancing_coefficient},
                              Field{"z_coefficient", &Options::z_coefficient}};
        }
    };

    /// The router, "model.router.weight" [steps, hidden].
    template <Backend B>
    class Weights {
    public:
        Weights(const ModelConfig& config, Index num_steps)
            : router_{"model.router.weight", config.hidden_size, num_steps} {}
        [[nodiscard]] Linear<B>& router() { return router_; }
        [[nodiscard]] const Linear<B>& router() const { return router_; }
        void initialize(Random& random, double deviation) { router_.initialize(random, deviation); }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            router_.visit_parameters(visitor);
        }

    private:
        Linear<B> router_;
    };

    /// The decision, taken in step 0 for all rows that enter the recursion.
    template <Backend B>
    struct Record {
        MatrixView<B> scores;  // [rows, steps]
        MatrixView<B> gate;    // [rows, steps]
        IndexView<B> best;     // [rows] index of the largest gate: the last step the row takes
    };

    /// Throws ConfigError if an option is out of range.
    explicit TokenChoice(const Options& options) : options_{options} {
        check<ConfigError>(options.alpha > 0, "mor::TokenChoice: alpha is ", options.alpha,
                           ", expected a positive number");
        check<ConfigError>(options.balancing_coefficient >= 0 && options.z_coefficient >= 0,
                           "mor::TokenChoice: balancing_coefficient and z_coefficient are ",
                           options.balancing_coefficient, " and ", options.z_coefficient,
                           ", expected 0 or more");
    }

    /// A row with index e takes steps 0 ... e.
    template <Backend B>
    Index select(Context<B>& context, const Weights<B>& weights, const StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            const Index rows = step.num_candidates();
            record = {context.matrix(rows, step.num_steps), context.matrix(rows, step.num_steps),
                      context.indices(rows)};
            weights.router().forward(context, step.hidden, record.scores);
            ops::softmax_gate<B>(context, record.scores, options_.alpha, record.gate, record.best);
            ops::pick_column<B>(context, record.gate, record.best, step.weight);
        }
        return ops::select_at_least<B>(context, record.best, step.source, step.step, step.kept);
    }

    /// Everything was decided in step 0, so its gradients are too.
    template <Backend B>
    void backward(Context<B>& context, Weights<B>& weights, const StepView<B>& step,
                  ConstIndexView<B> /*kept*/, Record<B>& record,
                  const StepGradient<B>& gradient) const {
        if (step.step != 0) {
            return;
        }
        const Index rows = record.scores.rows();
        const MatrixView<B> dgate = context.zero_matrix(rows, step.num_steps);
        const MatrixView<B> dscores = context.zero_matrix(rows, step.num_steps);
        const double scale = gradient.loss_scale;
        ops::pick_column_backward<B>(context, gradient.weight, record.best, dgate);
        const double balancing = ops::balancing_loss<B>(
            context, record.gate, record.best, options_.balancing_coefficient * scale, dgate);
        ops::softmax_gate_backward<B>(context, record.gate, options_.alpha, dgate, dscores);
        const double mean = scale / static_cast<double>(std::max<Index>(1, rows));
        const double z =
            ops::router_z_loss<B>(context, record.scores, options_.z_coefficient * mean, dscores);
        add_loss(*gradient.losses, "balancing", balancing * scale, options_.balancing_coefficient);
        add_loss(*gradient.losses, "router_z", z * mean, options_.z_coefficient);
        weights.router().backward(context, step.hidden, dscores, gradient.hidden,
                                  Write::accumulate);
    }

private:
    Options options_;
};

}  // namespace mor
