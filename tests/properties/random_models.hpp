// SPDX-License-Identifier: Apache-2.0
//
// Random models and ragged batches, drawn inside RapidCheck properties, and what they compute.
#pragma once

#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <rapidcheck.h>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor::test {

/// In double, whatever the order of summation, so that larger differences are mistakes.
using Processor = Cpu<double>;
inline constexpr double rounding = 1e-9;

/// Cycle, where later steps read the keys and values of the first.
using ExpertShared = MoRExpert<Cycle, RecursiveSharingCache>;

using ExpertHybrid = MoRExpert<MiddleCycle, HybridCache>;

/// What a model is made from; the architecture comes at compile time.
struct Setting {
    ModelConfig config;
    Index num_steps = 1;
    std::vector<double> capacities = {};  // one a step, or empty for the schedule's own
    double threshold = 0.5;               // of expert-choice in causal passes, and of halting
    std::uint64_t seed = 0;
};

/// Uniform in [first, last], in cases of any size.
[[nodiscard]] inline rc::Gen<Index> uniform(Index first, Index last) {
    return rc::gen::resize(rc::kNominalSize, rc::gen::inRange<Index>(first, last + 1));
}

/// Between `fewest` and `most` sequences of 0 to `longest` tokens.
[[nodiscard]] inline std::vector<Index> any_lengths(Index fewest, Index most, Index longest) {
    const Index count = *uniform(fewest, most).as("sequences");
    return *rc::gen::container<std::vector<Index>>(static_cast<std::size_t>(count),
                                                   uniform(0, longest))
                .as("lengths");
}

/// Percentages that do not increase, among them 100 %.
[[nodiscard]] inline std::vector<double> any_capacities(Index num_steps) {
    const auto percentage =
        rc::gen::weightedOneOf<Index>({{1, rc::gen::just<Index>(100)}, {3, uniform(1, 100)}});
    std::vector<Index> percentages =
        *rc::gen::container<std::vector<Index>>(static_cast<std::size_t>(num_steps), percentage)
             .as("capacities in percent, unsorted");
    std::sort(percentages.begin(), percentages.end(), std::greater<>{});
    std::vector<double> capacities;
    for (const Index value : percentages) {
        capacities.push_back(static_cast<double>(value) / 100.0);
    }
    return capacities;
}

/// Layers for so many steps, with those that small_options() keeps for a sharing itself.
[[nodiscard]] inline Index layers_for(std::string_view sharing, Index num_steps,
                                      Index layers_per_step) {
    if (sharing == Alternating::name) {
        return 2 * num_steps;
    }
    const Index own = sharing == Sandwich::name ? 3 : sharing.starts_with("middle") ? 2 : 0;
    return num_steps * layers_per_step + own;
}

/// A model with hidden states of `hidden` numbers and room for sequences of `longest` tokens.
template <class A>
[[nodiscard]] Setting any_setting(Index longest, Index hidden) {
    Setting setting{.config = small_config<A>()};
    setting.num_steps = *uniform(1, 4).as("steps");
    const bool given =
        *rc::gen::weightedElement<bool>({{1, false}, {4, true}}).as("capacities given");
    if (given) {
        setting.capacities = any_capacities(setting.num_steps);
    }
    setting.threshold = 0.1 * static_cast<double>(*uniform(3, 7).as("10 * threshold"));
    setting.seed = static_cast<std::uint64_t>(*uniform(0, 1'000'000).as("seed of the weights"));
    const Index layers_per_step = *uniform(1, 2).as("layers a step");
    ModelConfig& config = setting.config;
    config.num_layers = layers_for(A::Sharing::name, setting.num_steps, layers_per_step);
    config.num_kv_heads = *uniform(1, 2).as("kv heads");
    config.num_heads = config.num_kv_heads * *uniform(1, 3).as("heads per kv head");
    config.head_dim = 2 * *uniform(1, 4).as("head_dim / 2");
    config.hidden_size = hidden;
    config.intermediate_size = *uniform(1, 2 * hidden).as("intermediate size");
    config.vocab_size = *uniform(2, 40).as("vocabulary");
    config.max_positions = std::max<Index>(1, longest);
    config.tie_embeddings = *rc::gen::arbitrary<bool>().as("tied");
    return setting;
}

template <class A>
[[nodiscard]] ArchitectureOptions<A> options_of(const Setting& setting) {
    ArchitectureOptions<A> options = small_options<A>();
    if constexpr (requires { options.sharing.num_recursions; }) {
        options.sharing.num_recursions = setting.num_steps;
    }
    if constexpr (A::Sharing::has_steps) {
        options.schedule.capacities = setting.capacities;
    }
    if constexpr (requires { options.router.causality.threshold; }) {
        options.router.causality.threshold = setting.threshold;
    }
    if constexpr (requires { options.router.rule.threshold; }) {
        options.router.rule.threshold = setting.threshold;
    }
    if constexpr (requires { options.router.rule.quantile; }) {
        options.router.rule.quantile = setting.threshold;
    }
    return options;
}

/// With a bias of loss-free balancing as if some training were behind it.
template <class A>
[[nodiscard]] Model<A, Processor> make_model(Processor& processor, const Setting& setting) {
    Model<A, Processor> model{processor, setting.config, options_of<A>(setting), setting.seed};
    Random random{setting.seed};
    model.visit_parameters([&random](Parameter<Processor>& parameter) {
        if (parameter.group() == OptimizerGroup::none) {
            parameter.fill_normal(random, 0.1);
        }
    });
    return model;
}

/// Random tokens. In a sequence that began with a token repeated, those rows would have equal
/// hidden states and scores, and rounding would decide which of them top-k takes.
[[nodiscard]] inline Sequences any_sequences(const std::vector<Index>& lengths, Index vocabulary) {
    const auto seed = static_cast<std::uint64_t>(*uniform(0, 1'000'000).as("seed of the tokens"));
    Sequences sequences = random_sequences(lengths, vocabulary, seed);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        const auto first = static_cast<std::size_t>(sequences.offset(s));
        if (lengths[s] >= 2 && sequences.tokens[first] == sequences.tokens[first + 1]) {
            sequences.tokens[first + 1] =
                static_cast<TokenId>((sequences.tokens[first] + 1) % vocabulary);
        }
    }
    return sequences;
}

/// A model and a batch for it.
struct Example {
    Setting setting;
    Sequences sequences;
};

/// Sizes are small and mostly odd, so that rows do not fill vector registers.
template <class A>
[[nodiscard]] Example any_example(const std::vector<Index>& lengths) {
    const Index longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
    const Setting setting = any_setting<A>(longest, *uniform(2, 20).as("hidden size"));
    return {setting, any_sequences(lengths, setting.config.vocab_size)};
}

[[nodiscard]] inline Decision any_decision() {
    const bool causal = *rc::gen::arbitrary<bool>().as("causal");
    return causal ? Decision::causal : Decision::look_ahead;
}

/// The rows of one sequence out of the result for the batch.
template <class T>
[[nodiscard]] Result<T> rows_of(const Result<T>& result, Index vocabulary, Index first,
                                Index count) {
    return {rows_of(result.logits, vocabulary, first, count),
            {result.depths.begin() + first, result.depths.begin() + first + count}};
}

/// Equal depths, and logits that differ by rounding alone.
template <class T>
[[nodiscard]] bool agree(const Result<T>& a, const Result<T>& b) {
    return a.depths == b.depths && max_difference(a.logits, b.logits) < rounding;
}

/// Checks a property under a name that is unique, because RapidCheck's line for reproducing
/// failures goes by it.
template <class A, class Property>
void check_property(const std::string& sentence, Property&& property) {
    const std::string architecture = std::string{A::Router::name} + ", " +
                                     std::string{A::Sharing::name} + ", " +
                                     std::string{A::Cache::name};
    const bool holds =
        rc::check(sentence + " (" + architecture + ")", std::forward<Property>(property));
    CHECK(holds);
}

}  // namespace mor::test
