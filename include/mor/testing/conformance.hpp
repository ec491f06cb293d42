// SPDX-License-Identifier: Apache-2.0
//
// Conformance: what a concept cannot state, checked by running a policy. Each function returns the
// requirements that are violated, one sentence each; an empty list means that the policy conforms.
#pragma once

#include <mor/cache/key_layers.hpp>
#include <mor/model/backward.hpp>
#include <mor/model/model.hpp>
#include <mor/ops/cross_entropy.hpp>
#include <mor/testing/gradient_check.hpp>
#include <mor/testing/random_fill.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mor::testing {

using Violations = std::vector<std::string>;

namespace detail {

inline void require(Violations& violations, bool holds, const std::string& sentence) {
    if (!holds && std::find(violations.begin(), violations.end(), sentence) == violations.end()) {
        violations.push_back(sentence);
    }
}

template <class R>
struct RoutedCycle : DefaultArchitecture {
    using Sharing = Cycle;
    using Router = R;
};

/// Two sequences of 12 and 9 tokens of a vocabulary of 17.
struct SmallBatch {
    std::vector<TokenId> tokens;
    std::vector<Index> lengths{12, 9};

    explicit SmallBatch(std::uint64_t seed) {
        Random random{seed};
        tokens = uniform_integers<TokenId>(random, 21, 0, 17);
    }
    [[nodiscard]] Batch batch() const { return {tokens, lengths}; }
};

inline constexpr ModelConfig small_sizes{.vocab_size = 17,
                                         .hidden_size = 8,
                                         .intermediate_size = 12,
                                         .num_layers = 3,
                                         .num_heads = 2,
                                         .num_kv_heads = 1,
                                         .head_dim = 4,
                                         .max_positions = 16,
                                         .initializer_range = 0.3};

template <class A, Backend B>
void check_steps(const Trace<A, B>& trace, Violations& violations) {
    std::set<Index> before;
    for (std::size_t r = 0; r < trace.steps.size(); ++r) {
        const auto active = to_host(trace.steps[r].active);
        require(violations,
                std::adjacent_find(active.begin(), active.end(), std::greater_equal<>{}) ==
                    active.end(),
                "kept rows must be ascending and distinct");
        if constexpr (!reconsiders_every_token<typename A::Router>) {
            require(
                violations,
                r == 0 || std::includes(before.begin(), before.end(), active.begin(), active.end()),
                "only rows that took a step may take the next");
        }
        before = {active.begin(), active.end()};
    }
}

/// Token by token through a cache, against one causal pass.
template <class A, Backend B>
void check_decoding(const Model<A, B>& model, const SmallBatch& sample, double tolerance,
                    Violations& violations) {
    Context<B> context{model.backend()};
    Trace<A, B> trace;
    model.forward(context, sample.batch(), {.decision = Decision::causal}, trace);
    const auto expected = to_host(trace.logits);
    auto cache = model.make_cache(1);
    const std::vector<Index> one{1};
    for (std::size_t i = 0; i < 12; ++i) {
        model.extend(context, {{&sample.tokens[i], 1}, one}, cache, trace);
        const auto found = to_host(trace.logits);
        for (std::size_t j = 0; j < found.size(); ++j) {
            const double difference = std::abs(static_cast<double>(found[j]) -
                                               static_cast<double>(expected[i * found.size() + j]));
            require(violations, difference < tolerance,
                    "decoding token by token must give the logits of the causal pass");
        }
    }
}

/// Every row to depth 2 in a pass of three steps.
template <class A, Backend B>
void check_forced_depth(const Model<A, B>& model, const SmallBatch& sample,
                        Violations& violations) {
    Context<B> context{model.backend()};
    Trace<A, B> trace;
    bool keeps_all = true;
    try {
        model.forward(context, sample.batch(), {.depth = {.forced_depth = 2}}, trace);
        const auto depths = token_depths(trace);
        keeps_all = std::all_of(depths.begin(), depths.end(), [](Index d) { return d == 2; });
    } catch (const ConfigError&) {
        keeps_all = false;
    }
    require(violations, keeps_all,
            "where a depth is forced, a router keeps every candidate of earlier steps");
}

/// Adds the gradient of what it returns: the cross-entropy of predicting token 1 everywhere, and
/// the router's losses.
template <class A, Backend B>
double training_pass(Model<A, B>& model, Context<B>& context, const SmallBatch& sample) {
    Trace<A, B> trace;
    model.forward(context, sample.batch(), {}, trace);
    const auto targets = context.arena().template make<TokenId, 1>({std::ssize(sample.tokens)});
    from_host(targets, std::vector<TokenId>(sample.tokens.size(), 1));
    const MatrixView<B> dlogits = context.matrix(trace.logits.rows(), trace.logits.columns());
    const SumView<B> sum = context.arena().template make_zero<double, 1>({1});
    ops::cross_entropy<B>(context, trace.logits, targets, 1.0, dlogits, 1.0, sum);
    backward(model, context, trace, dlogits);
    double loss = mor::to_host(sum).front();
    for (const LossTerm& term : trace.losses.to_host()) {
        loss += term.coefficient * term.value;
    }
    return loss;
}

/// The derivative along one random direction of each parameter, against differences.
template <class A, Backend B>
void check_gradients(Model<A, B>& model, Context<B>& context, const SmallBatch& sample,
                     Violations& violations) {
    model.zero_gradients();
    training_pass(model, context, sample);
    std::vector<std::pair<Parameter<B>*, std::vector<double>>> trained;
    model.visit_parameters([&](Parameter<B>& parameter) {
        if (parameter.group() == OptimizerGroup::model) {
            trained.emplace_back(&parameter, to_host(std::as_const(parameter).gradient()));
        }
    });
    Random random{29};
    for (auto& [parameter, gradient] : trained) {
        const auto values = to_host(std::as_const(*parameter).value());
        const auto direction = normal_values(random, std::ssize(values));
        double analytic = 0;
        double length = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            analytic += gradient[i] * direction[i];
            length += gradient[i] * gradient[i];
        }
        const auto loss_at = [&](const std::vector<double>& distance) {
            auto moved = values;
            for (std::size_t i = 0; i < moved.size(); ++i) {
                moved[i] += distance[0] * direction[i];
            }
            from_host(parameter->value(), moved);
            return training_pass(model, context, sample);
        };
        const double numeric = numeric_gradient(loss_at, {0.0}, 1e-4)[0];
        from_host(parameter->value(), values);
        require(violations, std::abs(analytic - numeric) <= 1e-6 * std::max(1.0, std::sqrt(length)),
                "the gradient of " + parameter->name() + " must be that of differences");
    }
}

}  // namespace detail

/// Runs S.layout for each count of layers. Counts that it refuses must be refused with ConfigError.
template <SharingPolicy S>
[[nodiscard]] Violations check_sharing(const typename S::Options& options,
                                       const std::vector<Index>& layer_counts) {
    Violations violations;
    for (const Index count : layer_counts) {
        Layout layout;
        try {
            layout = S{options}.layout(count);
        } catch (const ConfigError&) {
            continue;
        } catch (...) {
            detail::require(violations, false, "an impossible count must be a ConfigError");
            continue;
        }
        detail::require(violations, layout.num_unrolled() == count,
                        "a layout has as many unrolled layers as were asked for");
        Index next = 0;
        for (const Index physical : layout.physical) {
            detail::require(violations, physical >= 0 && physical <= next,
                            "physical layers are numbered by first use, from 0 without gaps");
            next = std::max(next, physical + 1);
        }
        detail::require(violations, !S::has_steps || layout.num_steps > 0,
                        "a sharing with has_steps has at least one step");
        detail::require(violations,
                        layout.first_step_layer >= 0 && layout.end_of_recursion() <= count,
                        "steps lie inside the stack");
        detail::require(violations, layout.num_steps == 0 || layout.layers_per_step > 0,
                        "a step has at least one layer");
    }
    return violations;
}

/// Runs the schedule for `num_steps` steps at several training steps.
template <SchedulePolicy S>
[[nodiscard]] Violations check_schedule(const typename S::Options& options, Index num_steps) {
    Violations violations;
    const S schedule{options};
    for (const Index training_step : {Index{0}, Index{1}, Index{10}, Index{1'000'000}}) {
        double previous = 1;
        for (Index step = 0; step < num_steps; ++step) {
            const double capacity = schedule.capacity(step, num_steps, training_step);
            detail::require(violations, capacity > 0 && capacity <= 1, "a capacity lies in (0, 1]");
            detail::require(violations, capacity <= previous, "capacities do not increase");
            previous = capacity;
        }
    }
    for (Index step = 0; step < num_steps; ++step) {
        detail::require(violations,
                        std::abs(schedule.capacity(step, num_steps, 1'000'000'000) -
                                 schedule.capacity(step, num_steps, 0)) < 1e-9,
                        "without training a schedule has its final value");
    }
    return violations;
}

/// Asks the policy about every layer of a layout whose router works as `rows` says.
template <CachePolicy C>
[[nodiscard]] Violations check_cache(const typename C::Options& options, const Layout& layout,
                                     StepRows rows = StepRows::nested) {
    Violations violations;
    const C cache{options};
    for (Index layer = 0; layer < layout.num_unrolled(); ++layer) {
        const std::string problem{key_layer_problem(cache, layout, layer, rows)};
        detail::require(violations, problem.empty(), problem);
    }
    return violations;
}

/// Puts the router into small models on backend B: selections, causality to the bit (so B must be
/// exact whatever the number of rows: mor::Reference), decoding, and that gradients are finite.
template <class R, Backend B>
    requires RouterPolicy<R, B>
[[nodiscard]] Violations check_router(B& backend, const typename R::Options& options = {}) try {
    using A = detail::RoutedCycle<R>;
    Violations violations;
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
        Model<A, B> model{backend, detail::small_sizes, {.router = options}, seed};
        Context<B> context{backend};
        Trace<A, B> trace;
        const detail::SmallBatch sample{seed};
        const auto logits = [&](const detail::SmallBatch& batch) {
            model.forward(context, batch.batch(), {.decision = Decision::causal}, trace);
            detail::check_steps(trace, violations);
            return to_host(trace.logits);
        };
        const auto before = logits(sample);
        detail::SmallBatch changed = sample;
        changed.tokens[11] = (changed.tokens[11] + 1) % 17;
        const auto after = logits(changed);
        detail::require(violations,
                        std::equal(before.begin(), before.begin() + 11 * 17, after.begin()),
                        "in a causal pass a later token changes no earlier logit");
        detail::check_decoding(model, sample, 1e-4, violations);
        detail::check_forced_depth(model, sample, violations);

        model.zero_gradients();
        model.forward(context, sample.batch(), {.training_step = 1}, trace);
        detail::check_steps(trace, violations);
        backward(model, context, trace, trace.logits);
        model.visit_parameters([&](const Parameter<B>& parameter) {
            const auto gradient = to_host(parameter.gradient());
            detail::require(violations,
                            std::all_of(gradient.begin(), gradient.end(),
                                        [](auto g) { return std::isfinite(g); }),
                            "gradients are finite");
        });
    }
    return violations;
} catch (const ShapeError& error) {
    return {std::string{"a router keeps at most the candidates that it sees: "} + error.what()};
}

/// Puts a whole architecture into a small model of `num_layers` layers: a block, a relaxation, an
/// injection or a merge of one's own. Names of parameters, exact repetition, decoding, and the
/// gradient of every parameter in the model's optimiser group. B computes in double.
template <class A, Backend B>
    requires Architecture<A, B> && std::same_as<typename B::Element, double>
[[nodiscard]] Violations check_architecture(B& backend, Index num_layers,
                                            const ArchitectureOptions<A>& options = {}) {
    Violations violations;
    ModelConfig sizes = detail::small_sizes;
    sizes.num_layers = num_layers;
    Model<A, B> model{backend, sizes, options, 1};
    Context<B> context{backend};
    const detail::SmallBatch sample{1};

    std::set<std::string> names;
    // What begins as zero would hide mistakes.
    Random random{3};
    model.visit_parameters([&](Parameter<B>& parameter) {
        detail::require(violations, names.insert(parameter.name()).second,
                        "no two parameters have the same name: " + parameter.name());
        if (parameter.group() == OptimizerGroup::none) {
            return;
        }
        auto values = to_host(std::as_const(parameter).value());
        const auto noise = normal_values(random, std::ssize(values), 0.1);
        std::transform(values.begin(), values.end(), noise.begin(), values.begin(), std::plus<>{});
        from_host(parameter.value(), values);
    });
    detail::require(violations,
                    detail::training_pass(model, context, sample) ==
                        detail::training_pass(model, context, sample),
                    "the same pass gives the same loss");
    detail::check_decoding(model, sample, 1e-9, violations);
    detail::check_gradients(model, context, sample, violations);
    return violations;
}

}  // namespace mor::testing
