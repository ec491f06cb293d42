// SPDX-License-Identifier: Apache-2.0
//
// AdamW over all parameters of a model, and the global norm of their gradients.
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/optimizer.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mor {

/// Defaults are the paper's recipe.
struct AdamWOptions {
    double learning_rate = 3e-3;  // at the schedule's peak
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;            // not applied to norms
    double auxiliary_router_factor = 10;  // on the rate of that group

    static constexpr auto fields() {
        using O = AdamWOptions;
        return std::tuple{Field{"learning_rate", &O::learning_rate},
                          Field{"beta1", &O::beta1},
                          Field{"beta2", &O::beta2},
                          Field{"epsilon", &O::epsilon},
                          Field{"weight_decay", &O::weight_decay},
                          Field{"auxiliary_router_factor", &O::auxiliary_router_factor}};
    }
};

/// What each group's gradients are multiplied by before an update.
struct GradientScale {
    double model = 1;
    double auxiliary_router = 1;
};

/// The optimiser's state: two moments a trained parameter, in the model's visiting order.
template <Backend B>
class AdamW {
public:
    struct Moments {
        std::string name;  // of the parameter
        Tensor<typename B::Element, 1, typename B::Space> m;
        Tensor<typename B::Element, 1, typename B::Space> v;
    };

    /// Throws ConfigError if an option is out of range.
    template <class Model>
    AdamW(Model& model, const AdamWOptions& options) : options_{options} {
        const auto is_share = [](double beta) { return beta >= 0 && beta < 1; };
        check<ConfigError>(
            options.learning_rate >= 0 && options.weight_decay >= 0 && options.epsilon > 0,
            "mor::AdamW: learning_rate, weight_decay and epsilon are ", options.learning_rate, ", ",
            options.weight_decay, ", ", options.epsilon,
            "; expected 0 or more, 0 or more, more than 0");
        check<ConfigError>(is_share(options.beta1) && is_share(options.beta2),
                           "mor::AdamW: beta1 and beta2 are ", options.beta1, ", ", options.beta2,
                           "; expected numbers in [0, 1)");
        model.visit_parameters([this](Parameter<B>& parameter) {
            if (parameter.group() == OptimizerGroup::none) {
                return;
            }
            using State = Tensor<typename B::Element, 1, typename B::Space>;
            const std::array<Index, 1> extents{parameter.size()};
            moments_.push_back({parameter.name(), State{extents}, State{extents}});
        });
    }

    /// One update of every parameter with its gradient times its group's factor.
    template <class Model>
    void update(Context<B>& context, Model& model, double learning_rate_factor,
                const GradientScale& gradient_scale) {
        ++updates_;
        const auto t = static_cast<double>(updates_);
        const double rate = options_.learning_rate * learning_rate_factor;
        AdamWStep step{.beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .epsilon = options_.epsilon,
                       .correction1 = 1.0 - std::pow(options_.beta1, t),
                       .correction2 = 1.0 - std::pow(options_.beta2, t)};
        std::size_t index = 0;
        model.visit_parameters([&](Parameter<B>& parameter) {
            if (parameter.group() == OptimizerGroup::none) {
                return;
            }
            const bool auxiliary = parameter.group() == OptimizerGroup::auxiliary_router;
            step.learning_rate = auxiliary ? rate * options_.auxiliary_router_factor : rate;
            step.gradient_scale =
                auxiliary ? gradient_scale.auxiliary_router : gradient_scale.model;
            step.decay = parameter.decay() == WeightDecay::yes ? options_.weight_decay : 0.0;
            Moments& state = moments_[index++];
            ops::adamw<B>(context, step, std::as_const(parameter).gradient(), parameter.value(),
                          state.m.view(), state.v.view());
        });
    }

    [[nodiscard]] const AdamWOptions& options() const { return options_; }
    [[nodiscard]] Index updates() const { return updates_; }
    void set_updates(Index updates) { updates_ = updates; }
    [[nodiscard]] std::vector<Moments>& moments() { return moments_; }
    [[nodiscard]] const std::vector<Moments>& moments() const { return moments_; }

private:
    AdamWOptions options_;
    Index updates_ = 0;
    std::vector<Moments> moments_;
};

/// The L2 norm of all gradients of a group together.
template <Backend B, class Model>
[[nodiscard]] double gradient_norm(Context<B>& context, Model& model,
                                   OptimizerGroup group = OptimizerGroup::model) {
    double sum = 0;
    model.visit_parameters([&](Parameter<B>& parameter) {
        if (parameter.group() != group) {
            return;
        }
        sum += ops::sum_of_squares<B>(context, std::as_const(parameter).gradient());
    });
    return std::sqrt(sum);
}

}  // namespace mor
