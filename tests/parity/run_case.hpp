// SPDX-License-Identifier: Apache-2.0
//
// One case on one backend: the same weights, the same batch, every number compared.
#pragma once

#include "parity/case.hpp"
#include "parity/comparison.hpp"
#include "parity/names.hpp"
#include <mor/cache/hybrid.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/layers/relaxation/adaption_prompt.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>
#include <mor/layers/relaxation/unshared_norms.hpp>
#include <mor/model/backward.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>
#include <mor/train/evaluate.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace parity {

template <class A, mor::Backend B>
class CaseRun {
    using Router = typename A::Router;
    using Element = typename B::Element;
    static constexpr bool is_expert_choice = Router::name.starts_with("expert_choice");
    static constexpr bool is_token_choice = Router::name.starts_with("token_choice");

public:
    CaseRun(B& backend, const Case& reference, Comparison& comparison)
        : case_{reference},
          comparison_{comparison},
          model_{backend, reference.model, options_of(reference)},
          names_{reference, model_.layout()},
          context_{backend},
          lengths_(static_cast<std::size_t>(reference.num_sequences), reference.length) {}

    void run() {
        load_weights();
        if (!comparison_.problems().empty()) {
            return;
        }
        compare_evaluation();
        compare_training();
        if (case_.decodes) {
            compare_decoding();
        }
        if (case_.is_loss_free) {
            model_.after_update();
            comparison_.numbers(Kind::activations, "router_bias.after_sync",
                                mor::to_host(find("model.router.bias")));
        }
        comparison_.finish();
    }

private:
    /// Compares the hidden states on the way. Layers of a routed recursion have no numbers.
    struct HiddenStates {
        Comparison& comparison;
        const Names& names;

        void operator()(const mor::EmbeddingSeen<B>& seen) { compare("hidden.embed", seen.hidden); }
        void operator()(const mor::LayerSeen<B>& seen) {
            if (seen.step < 0 || Router::name == mor::FixedDepth::name) {
                compare(names.after_layer(seen.layer), seen.hidden);
            }
        }
        void operator()(const mor::StepSeen<B>& seen) {
            compare(names.after_step(seen.view.step), seen.hidden);
        }
        void operator()(const mor::RecursionSeen<B>& seen) {
            compare(names.after_recursion(), seen.hidden);
        }

    private:
        void compare(const std::string& name, mor::ConstMatrixView<B> hidden) {
            if (!name.empty()) {
                comparison.numbers(Kind::activations, name, mor::to_host(hidden));
            }
        }
    };

    /// Of what products read, which may be rounded for them.
    static std::vector<Element> numbers_of(mor::ConstActivationView<B> input) {
        if constexpr (std::same_as<mor::ActivationElement<B>, Element>) {
            return mor::to_host(input);
        } else {
            std::vector<Element> numbers;
            for (const auto number : mor::to_host(input)) {
                numbers.push_back(mor::to_float(number));
            }
            return numbers;
        }
    }

    static mor::ArchitectureOptions<A> options_of(const Case& reference) {
        mor::ArchitectureOptions<A> options;
        if constexpr (requires { options.sharing.num_recursions; }) {
            options.sharing.num_recursions = reference.num_recursions;
        }
        if constexpr (is_expert_choice) {
            copy_common(reference.expert_choice, options.router);
            options.router.causality.coefficient = expert_coefficient(reference);
            options.schedule = reference.schedule;
        } else if constexpr (is_token_choice) {
            copy_common(reference.token_choice, options.router);
            options.router.balancing_warmup = reference.token_choice.balancing_warmup;
            if constexpr (requires { options.router.balancing.coefficient; }) {
                options.router.balancing = reference.token_choice.balancing;
            }
        }
        return options;
    }

    /// What all expert-choice routers, and all token-choice routers, have in common.
    template <class From, class To>
    static void copy_common(const From& from, To& to) {
        to.gate = from.gate;
        to.alpha = from.alpha;
        to.temperature = from.temperature;
        to.weighted = from.weighted;
        to.z_coefficient = from.z_coefficient;
    }

    /// The number of micro-batches of an update, by which the authors divide the losses of routers,
    /// but not the auxiliary loss of expert choice; we divide all.
    static double micro_batches(const Case& reference) {
        return static_cast<double>(reference.num_items) /
               static_cast<double>(reference.tokens.size());
    }
    /// The authors train an auxiliary router with coefficient 1.
    static double expert_coefficient(const Case& reference) {
        return reference.has_auxiliary_router
                   ? 1.0
                   : reference.expert_choice.causality.coefficient * micro_batches(reference);
    }

    [[nodiscard]] mor::Batch batch() const { return {case_.tokens, lengths_}; }

    /// Their tensors `prefix`NAME with our parameter of that name. Reports either without the
    /// other.
    template <class Visitor>
    void for_each_parameter(std::string_view prefix, Visitor&& visitor) {
        std::map<std::string, mor::Parameter<B>*> ours;
        model_.visit_parameters(
            [&ours](mor::Parameter<B>& parameter) { ours[parameter.name()] = &parameter; });
        for (const auto& tensor : case_.tensors.tensors()) {
            if (!tensor.first.starts_with(prefix)) {
                continue;
            }
            const auto found = ours.find(names_.parameter(tensor.first.substr(prefix.size())));
            if (found == ours.end()) {
                comparison_.problem(tensor.first + ": we have no such parameter, or had it before");
                continue;
            }
            visitor(tensor.first, *found->second);
            ours.erase(found);
        }
        std::erase_if(ours, [prefix](const auto& parameter) {
            return prefix == "grad." && parameter.second->group() == mor::OptimizerGroup::none;
        });
        for (const auto& parameter : ours) {
            comparison_.problem(parameter.first + ": the case has no tensor " +
                                std::string{prefix} + " for it");
        }
    }

    void load_weights() {
        for_each_parameter("param.", [this](const std::string& tensor, auto& parameter) {
            const std::vector<double> values = comparison_.parameter(tensor, parameter.shape());
            std::vector<Element> converted(values.size());
            std::transform(values.begin(), values.end(), converted.begin(),
                           [](double value) { return static_cast<Element>(value); });
            if (comparison_.fault() == Fault::weight && parameter.name() == faulty_weight) {
                const double largest = *std::max_element(values.begin(), values.end());
                converted[0] += static_cast<Element>(10 * comparison_.tolerance().values * largest);
            }
            mor::from_host(parameter.value(), converted);
        });
    }

    void compare_evaluation() {
        model_.forward(context_, batch(), {.decision = mor::Decision::look_ahead}, trace_,
                       HiddenStates{comparison_, names_});
        comparison_.numbers(Kind::activations, "hidden.final", numbers_of(trace_.normed));
        comparison_.numbers(Kind::activations, "logits", mor::to_host(trace_.logits));
        compare_selection("");
        if constexpr (is_expert_choice) {
            for (std::size_t step = 0; step < trace_.router.steps.size(); ++step) {
                const auto& record = trace_.router.steps[step];
                comparison_.numbers(Kind::activations, "router_logits." + std::to_string(step),
                                    mor::to_host(record.scores));
                if constexpr (requires { record.causality.predictions; }) {
                    comparison_.numbers(Kind::activations,
                                        "aux_router_logits." + std::to_string(step),
                                        mor::to_host(record.causality.predictions));
                }
            }
        } else if constexpr (is_token_choice) {
            comparison_.numbers(Kind::activations, "router_logits",
                                mor::to_host(trace_.router.scores));
        }
    }

    void compare_selection(const std::string& prefix) {
        if constexpr (is_expert_choice) {
            for (std::size_t step = 0; step < trace_.steps.size(); ++step) {
                comparison_.rows(prefix + "selected." + std::to_string(step),
                                 mor::to_host(trace_.steps[step].active));
            }
        } else if constexpr (is_token_choice) {
            comparison_.indices(prefix + "top_expert_indices", last_steps());
        }
    }

    [[nodiscard]] mor::ConstVectorView<B> find(std::string_view name) {
        mor::ConstVectorView<B> found;
        model_.visit_parameters([&](const mor::Parameter<B>& parameter) {
            found = parameter.name() == name ? parameter.value() : found;
        });
        return found;
    }

    /// Each row's last step: a row of depth d takes steps 0 ... d - 1.
    std::vector<Index> last_steps() const {
        std::vector<Index> result = mor::token_depths(trace_);
        for (Index& depth : result) {
            --depth;
        }
        return result;
    }

    void compare_training() {
        model_.zero_gradients();
        model_.forward(
            context_, batch(),
            {.decision = mor::Decision::look_ahead, .training_step = case_.training_step}, trace_);
        comparison_.numbers(Kind::activations, "train.logits", mor::to_host(trace_.logits));
        compare_selection("train.");

        const double scale = 1.0 / static_cast<double>(case_.num_items);
        const auto dnormed = context_.matrix(trace_.normed.rows(), trace_.normed.columns());
        const mor::SumView<B> sum = context_.arena().template make_zero<double, 1>({1});
        mor::language_model_loss(model_, context_, trace_, case_.targets, scale, sum, dnormed);
        mor::backward_below_head(model_, context_, trace_, dnormed,
                                 {.loss_scale = 1 / micro_batches(case_)});
        compare_losses(mor::to_host(sum).front(), scale);
        for_each_parameter("grad.", [this](const std::string& tensor, auto& parameter) {
            comparison_.numbers(Kind::gradients, tensor, mor::to_host(parameter.gradient()));
        });
    }

    void compare_losses(double loss, double scale) {
        const auto counted = std::count_if(case_.targets.begin(), case_.targets.end(),
                                           [](TokenId target) { return target >= 0; });
        comparison_.number(Kind::losses, "loss.lm", loss);
        comparison_.number(Kind::losses, "loss.lm_mean",
                           loss / scale / static_cast<double>(counted));
        double total = loss;
        for (const mor::LossTerm& term : trace_.losses.to_host()) {
            if (case_.has_auxiliary_router && term.name == "selection") {
                comparison_.number(Kind::losses, "loss.second_backward", term.value);
            } else {
                total += term.coefficient * term.value;
            }
        }
        comparison_.number(Kind::losses, "loss.total", total);
        if constexpr (is_expert_choice) {
            comparison_.number(Kind::losses, "loss.sampling",
                               router_loss("selection") * micro_batches(case_));
            comparison_.number(Kind::losses, "loss.router_z", router_loss("router_z"));
        } else if constexpr (is_token_choice) {
            comparison_.number(Kind::losses, "loss.balancing", router_loss("balancing"));
            comparison_.number(Kind::losses, "loss.router_z", router_loss("router_z"));
            compare_balancing_ratio();
        }
    }

    /// Zero, as in the authors' code, if the loss is switched off.
    [[nodiscard]] double router_loss(std::string_view name) const {
        for (const mor::LossTerm& term : trace_.losses.to_host()) {
            if (term.name == name && term.coefficient != 0) {
                return term.value;
            }
        }
        return 0;
    }

    void compare_balancing_ratio() {
        const std::vector<Index> last = last_steps();
        std::vector<double> ratio(static_cast<std::size_t>(model_.layout().num_steps), 0.0);
        for (const Index step : last) {
            ratio.at(static_cast<std::size_t>(step)) += 1.0 / static_cast<double>(last.size());
        }
        comparison_.numbers(Kind::losses, "metric.balancing_ratio", ratio);
    }

    /// All sequences together, one token of each at a time.
    void compare_decoding() {
        const auto vocabulary = static_cast<std::size_t>(case_.model.vocab_size);
        const auto length = static_cast<std::size_t>(case_.length);
        const std::vector<Index> ones(lengths_.size(), 1);
        std::vector<Element> logits(case_.tokens.size() * vocabulary);
        auto cache = model_.make_cache(case_.num_sequences);
        for (std::size_t position = 0; position < length; ++position) {
            std::vector<TokenId> tokens;
            for (std::size_t s = 0; s < lengths_.size(); ++s) {
                tokens.push_back(case_.tokens[s * length + position]);
            }
            model_.extend(context_, {tokens, ones}, cache, trace_);
            const std::vector<Element> rows = mor::to_host(trace_.logits);
            for (std::size_t s = 0; s < lengths_.size(); ++s) {
                std::copy_n(&rows[s * vocabulary], vocabulary,
                            &logits[(s * length + position) * vocabulary]);
            }
        }
        comparison_.numbers(Kind::decode, "decode.logits", logits);
    }

    static constexpr std::string_view faulty_weight = "model.norm.weight";

    const Case& case_;
    Comparison& comparison_;
    mor::Model<A, B> model_;
    Names names_;
    mor::Context<B> context_;
    std::vector<Index> lengths_;
    mor::Trace<A, B> trace_;
};

template <class R, mor::SharingPolicy S, mor::CachePolicy C>
struct Routed : mor::DefaultArchitecture {
    using Router = R;
    using Sharing = S;
    using Cache = C;
};

/// The routers that the cases combine with this sharing and cache.
template <mor::SharingPolicy S, mor::CachePolicy C, mor::Backend B>
void run_routed(B& backend, const Case& reference, Comparison& comparison) {
    const auto run = [&]<class Router>() {
        CaseRun<Routed<Router, S, C>, B>{backend, reference, comparison}.run();
    };
    const bool is_expert_choice = reference.routing == Routing::expert_choice;
    if constexpr (std::same_as<C, mor::HybridCache>) {
        return run.template operator()<mor::ExpertChoice>();
    }
    if constexpr (std::same_as<C, mor::RecursionWiseCache>) {
        using Mlp = mor::MlpNetwork;
        const bool mlp = reference.network == Network::mlp;
        if (is_expert_choice && reference.has_auxiliary_router) {
            return mlp ? run.template
                         operator()<mor::ExpertChoiceRouter<Mlp, mor::AuxiliaryRouter<Mlp>>>()
                       : run.template operator()<mor::ExpertChoiceRouter<
                             mor::LinearNetwork, mor::AuxiliaryRouter<mor::LinearNetwork>>>();
        }
        if (mlp) {
            return is_expert_choice ? run.template operator()<mor::ExpertChoiceRouter<Mlp>>()
                                    : run.template operator()<mor::TokenChoiceRouter<Mlp>>();
        }
        if (reference.is_loss_free) {
            return run.template
            operator()<mor::TokenChoiceRouter<mor::LinearNetwork, mor::LossFreeBalancing>>();
        }
    }
    return is_expert_choice ? run.template operator()<mor::ExpertChoice>()
                            : run.template operator()<mor::TokenChoice>();
}

template <class R, mor::SharingPolicy S>
struct Relaxed : mor::Recursive<S> {
    using Relaxation = R;
};

/// The relaxations that the cases combine with these sharings.
template <mor::Backend B>
void run_relaxed(B& backend, const Case& reference, Comparison& comparison) {
    const auto run = [&]<class R, class S>() {
        CaseRun<Relaxed<R, S>, B>{backend, reference, comparison}.run();
    };
    switch (reference.relaxation) {
        case Relaxation::none:
            return;
        case Relaxation::unshared_norms:
            return run.template operator()<mor::UnsharedNorms, mor::MiddleCycle>();
        case Relaxation::recursion_encoding:
            return run.template operator()<mor::RecursionEncoding, mor::Cycle>();
        case Relaxation::adaption_prompt:
            return run.template operator()<mor::AdaptionPrompt, mor::MiddleCycle>();
    }
}

/// Runs the case as a model of the matching architecture with this cache.
template <mor::CachePolicy C, mor::Backend B>
void run_with(B& backend, const Case& reference, Comparison& comparison) {
    if (reference.routing != Routing::none) {
        return reference.sharing == Sharing::middle_cycle
                   ? run_routed<mor::MiddleCycle, C>(backend, reference, comparison)
                   : run_routed<mor::Cycle, C>(backend, reference, comparison);
    }
    const auto run = [&]<class A>() { CaseRun<A, B>{backend, reference, comparison}.run(); };
    switch (reference.sharing) {
        case Sharing::none:
            return run.template operator()<mor::Vanilla>();
        case Sharing::cycle:
            return run.template operator()<mor::Recursive<mor::Cycle, C>>();
        case Sharing::middle_cycle:
            return run.template operator()<mor::Recursive<mor::MiddleCycle, C>>();
        case Sharing::sequence:
            return run.template operator()<mor::Recursive<mor::Sequence, C>>();
        case Sharing::middle_sequence:
            return run.template operator()<mor::Recursive<mor::MiddleSequence, C>>();
    }
}

template <mor::Backend B>
void run_on(B& backend, const Case& reference, Comparison& comparison) {
    if (reference.relaxation != Relaxation::none) {
        return run_relaxed(backend, reference, comparison);
    }
    switch (reference.cache) {
        case Cache::recursion_wise:
            return run_with<mor::RecursionWiseCache>(backend, reference, comparison);
        case Cache::recursive_sharing:
            return run_with<mor::RecursiveSharingCache>(backend, reference, comparison);
        case Cache::hybrid:
            return run_routed<mor::MiddleCycle, mor::HybridCache>(backend, reference, comparison);
    }
}

}  // namespace parity
