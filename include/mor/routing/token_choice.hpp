// SPDX-License-Identifier: Apache-2.0
//
// Token-choice routing (paper, section 2.2.1): one router, before the first step, gives every
// token its depth for good. Causal by construction.
#pragma once

#include <mor/core/joined.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/gate.hpp>
#include <mor/ops/scale.hpp>
#include <mor/ops/select.hpp>
#include <mor/routing/balancing.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/network.hpp>
#include <mor/routing/scores.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace mor {

/// `Network` scores the depths of a token; `Balancing` evens out the load.
template <class Network = LinearNetwork, class Balancing = BalancingLoss>
class TokenChoiceRouter {
    static_assert(detail::explain_network_options<Network>());
    static_assert(detail::explain_balancing_options<Balancing>());
    static constexpr std::string_view base = "token_choice";

public:
    static constexpr std::string_view name =
        Joined<&base, &Network::suffix, &Balancing::suffix>::text;
    static constexpr bool decides_in_first_step = true;
    using Merge = GateAtExit;

    struct Options {
        GateFunction gate = GateFunction::softmax;  // of a token's scores
        double alpha = 1.0;                         // gate = alpha * function(scores)
        double temperature = 1.0;                   // hidden states are divided by it
        bool weighted = true;                       // false: every gate is 1
        double z_coefficient = 0.0;                 // of the router z-loss; the paper uses 1e-5
        Index balancing_warmup = 0;  // training steps before this one send all tokens deepest
        typename Network::Options network = {};
        typename Balancing::Options balancing = {};

        static constexpr auto fields() {
            using O = Options;
            return std::tuple{Field{"gate", &O::gate},
                              Field{"alpha", &O::alpha},
                              Field{"temperature", &O::temperature},
                              Field{"weighted", &O::weighted},
                              Field{"z_coefficient", &O::z_coefficient},
                              Field{"balancing_warmup", &O::balancing_warmup},
                              Field{"network", &O::network},
                              Field{"balancing", &O::balancing}};
        }
    };

    /// The router, "model.router." and the names of its network, [steps] outputs.
    template <Backend B>
    struct Weights {
        static_assert(detail::explain_network<Network, B>());
        static_assert(detail::explain_balancing<Balancing, B>());

        typename Network::template Weights<B> network;
        typename Balancing::template Weights<B> balancing;

        Weights(const ModelConfig& config, Index num_steps, const Options& options)
            : network{"model.router.", config.hidden_size, num_steps, options.network},
              balancing{num_steps} {}
        void initialize(Random& random, double deviation) { network.initialize(random, deviation); }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            network.visit_parameters(visitor);
            balancing.visit_parameters(visitor);
        }
    };

    /// The decision, taken in step 0 for all rows that enter the recursion.
    template <Backend B>
    struct Record {
        ConstMatrixView<B> hidden;          // [rows, hidden] over the temperature
        MatrixView<B> scores;               // [rows, steps]
        MatrixView<B> gate;                 // [rows, steps]
        IndexView<B> best;                  // [rows] the last step that the row takes
        std::vector<Index> host_best = {};  // the same on a device's host, once it knows
        typename Network::template Weights<B>::Saved network = {};

        /// [rows, steps] in step 0, which decides; nothing in later ones.
        [[nodiscard]] ConstMatrixView<B> scores_of(Index step) const {
            return step == 0 ? ConstMatrixView<B>{scores} : ConstMatrixView<B>{};
        }
    };

    /// Throws ConfigError if an option is out of range.
    explicit TokenChoiceRouter(const Options& options)
        : options_{options}, balancing_{options.balancing} {
        detail::check_positive(options.alpha, "mor::TokenChoice: alpha");
        detail::check_positive(options.temperature, "mor::TokenChoice: temperature");
        detail::check_not_negative(options.z_coefficient, "mor::TokenChoice: z_coefficient");
        check<ConfigError>(options.balancing_warmup >= 0, "mor::TokenChoice: balancing_warmup is ",
                           options.balancing_warmup, ", expected 0 or more");
    }

    /// A row whose best score is e takes steps 0 ... e.
    template <Backend B>
    Index select(Context<B>& context, const Weights<B>& weights, const StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            const Index rows = step.num_candidates();
            record.host_best.clear();
            record = {.hidden = detail::cooled(context, step.hidden, options_.temperature),
                      .scores = context.matrix(rows, step.num_steps),
                      .gate = context.matrix(rows, step.num_steps),
                      .best = context.indices(rows),
                      .host_best = std::move(record.host_best)};
            weights.network.forward(context, record.hidden, record.scores, record.network);
            ops::gate<B>(context, options_.gate, record.scores, options_.alpha, record.gate);
            const auto send_all = [&](Index last) {
                ops::fill_indices<B>(context, last, record.best);
                if constexpr (!HostBackend<B>) {
                    record.host_best.assign(static_cast<std::size_t>(rows), last);
                }
            };
            if (is_warming_up(step)) {
                send_all(step.num_steps - 1);
            } else if (step.forced_depth > 0) {
                send_all(std::min(step.forced_depth, step.num_steps) - 1);
            } else {
                ops::best_column<B>(context, record.gate, weights.balancing.bias(), record.best);
            }
            if (options_.weighted) {
                ops::pick_column<B>(context, record.gate, record.best, step.weight);
            } else {
                ops::fill<B>(context, 1.0, step.weight);
            }
            ops::number_rows<B>(context, step.kept);  // all take it: no device has to be asked
            return rows;
        }
        if constexpr (!HostBackend<B>) {
            if (step.host_kept != nullptr && step.knows_source()) {
                return keep_known(step, record);
            }
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
        if (options_.weighted) {
            ops::pick_column_backward<B>(context, gradient.weight, record.best, dgate);
        }
        balancing_.backward(context, weights.balancing, record.gate, record.best, gradient, dgate);
        if (is_warming_up(step)) {
            weights.balancing.reset();
        }
        ops::gate_backward<B>(context, options_.gate, record.gate, options_.alpha, dgate, dscores);
        detail::add_z_loss<B>(context, record.scores, options_.z_coefficient, gradient, dscores);
        detail::cooled_backward<B>(
            context, options_.temperature, gradient.hidden, [&](MatrixView<B> dhidden) {
                weights.network.backward(context, record.hidden, record.network, dscores, dhidden);
            });
    }

    /// Called by the trainer after each update of the weights.
    template <Backend B>
    void after_update(Weights<B>& weights) const {
        balancing_.after_update(weights.balancing);
    }

private:
    /// A device is asked once a pass, for the depths of all rows; the host then selects, and knows
    /// what it selected.
    template <Backend B>
    [[nodiscard]] static Index keep_known(const StepView<B>& step, Record<B>& record) {
        if (record.host_best.empty()) {
            to_host(ConstIndexView<B>{record.best}, record.host_best);
        }
        std::vector<Index>& kept = *step.host_kept;
        kept.clear();
        for (std::size_t i = 0; i < step.host_source.size(); ++i) {
            const auto row = static_cast<std::size_t>(step.host_source[i]);
            if (record.host_best[row] >= step.step) {
                kept.push_back(static_cast<Index>(i));
            }
        }
        from_host(step.kept.slice(0, std::ssize(kept)), kept);
        return std::ssize(kept);
    }

    template <Backend B>
    [[nodiscard]] bool is_warming_up(const StepView<B>& step) const {
        return step.training_step > 0 && step.training_step < options_.balancing_warmup;
    }

    Options options_;
    Balancing balancing_;
};

/// The paper's best: a linear router with the balancing loss.
using TokenChoice = TokenChoiceRouter<>;

}  // namespace mor
