// SPDX-License-Identifier: Apache-2.0
//
// AdamW over all parameters of a model, with gradients clipped by their global norm.
#pragma once

#include <mor/core/parameter.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/optimizer.hpp>

#include <algorithm>
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

    /// Brings the numbers of the next update into the backend's memory. Before the passes, so that
    /// none of them waits.
    void begin_update(double learning_rate_factor) {
        const auto t = static_cast<double>(updates_ + 1);
        const AdamWStep step{.learning_rate = options_.learning_rate * learning_rate_factor,
                             .correction1 = 1.0 - std::pow(options_.beta1, t),
                             .correction2 = 1.0 - std::pow(options_.beta2, t)};
        B::Space::copy_from_host(step_.view().data(), &step, sizeof(step));
    }

    /// One update of every parameter, with each group's gradients scaled so that their norm is at
    /// most `clip`; writes the norms before. After begin_update(). If the loss [1] or a norm is not
    /// finite, weights and moments stay as they are: who finds that out, when they come to the
    /// host, takes the update back by set_updates().
    template <class Model>
    void update(Context<B>& context, Model& model, double clip, ConstSumView<B> loss,
                GroupView<B> norms) {
        ++updates_;
        list(model);
        ops::gradient_norms<B>(context, table_, norms);
        ops::clip_scales<B>(context, clip, loss, norms, scales_.view());
        ops::adamw<B>(
            context,
            {.beta1 = options_.beta1, .beta2 = options_.beta2, .epsilon = options_.epsilon},
            step_.view(), scales_.view(), table_);
    }

    [[nodiscard]] const AdamWOptions& options() const { return options_; }
    [[nodiscard]] Index updates() const { return updates_; }
    void set_updates(Index updates) { updates_ = updates; }
    [[nodiscard]] std::vector<Moments>& moments() { return moments_; }
    [[nodiscard]] const std::vector<Moments>& moments() const { return moments_; }

private:
    /// Lists the model's parameters and their moments for the kernels, and lets packed weights be
    /// packed again. The table stays, unless the model has memory of its own elsewhere by now.
    template <class Model>
    void list(Model& model) {
        tensors_.clear();
        model.visit_parameters([this](Parameter<B>& parameter) {
            if (parameter.group() == OptimizerGroup::none) {
                return;
            }
            const bool is_auxiliary = parameter.group() == OptimizerGroup::auxiliary_router;
            Moments& state = moments_[tensors_.size()];
            tensors_.push_back(
                {.gradient = std::as_const(parameter).gradient(),
                 .value = parameter.value(),
                 .m = state.m.view(),
                 .v = state.v.view(),
                 .group = parameter.group(),
                 .rate_factor = is_auxiliary ? options_.auxiliary_router_factor : 1.0,
                 .decay = parameter.decay() == WeightDecay::yes ? options_.weight_decay : 0.0});
        });
        const auto is_same = [](const TrainedTensor<B>& a, const TrainedTensor<B>& b) {
            return a.gradient.data() == b.gradient.data() && a.value.data() == b.value.data() &&
                   a.m.data() == b.m.data() && a.v.data() == b.v.data() &&
                   a.value.size() == b.value.size() && a.group == b.group &&
                   a.rate_factor == b.rate_factor && a.decay == b.decay;
        };
        if (!std::ranges::equal(tensors_, listed_, is_same)) {
            table_ = TensorTable<B>{tensors_};
            listed_ = tensors_;
        }
    }

    AdamWOptions options_;
    Index updates_ = 0;
    std::vector<Moments> moments_;
    std::vector<TrainedTensor<B>> tensors_;
    std::vector<TrainedTensor<B>> listed_;  // in the table
    TensorTable<B> table_;
    Tensor<AdamWStep, 1, typename B::Space> step_{{1}};
    Tensor<double, 1, typename B::Space> scales_{{num_trained_groups}};
};

}  // namespace mor
