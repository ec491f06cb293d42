// SPDX-License-Identifier: Apache-2.0
//
// Small models and ragged batches for the tests of whole passes.
#pragma once

#include <mor/cache/hybrid.hpp>
#include <mor/cache/pattern_sharing.hpp>
#include <mor/layers/relaxation/adaption_prompt.hpp>
#include <mor/layers/relaxation/low_rank.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>
#include <mor/layers/relaxation/unshared_norms.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>
#include <mor/routing/halting.hpp>
#include <mor/routing/random_choice.hpp>
#include <mor/routing/random_depth.hpp>
#include <mor/sharing/alternating.hpp>
#include <mor/sharing/sandwich.hpp>
#include <mor/testing/random_fill.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Every sharing with every router that goes with it.
#define MOR_ALL_ARCHITECTURES                                                                     \
    mor::Vanilla, mor::Recursive<mor::Sequence>, mor::Recursive<mor::MiddleSequence>,             \
        mor::Recursive<mor::Cycle>, mor::Recursive<mor::MiddleCycle>, mor::MoRExpert<mor::Cycle>, \
        mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>,                              \
        mor::MoRToken<mor::MiddleCycle>

/// Every network, causal rule and way of balancing once.
#define MOR_ROUTER_ARCHITECTURES                                           \
    mor::test::ExpertMlp, mor::test::ExpertAuxiliary, mor::test::TokenMlp, \
        mor::test::TokenLossFree, mor::test::RandomRouted

/// Later steps read the keys and values of the first.
#define MOR_SHARED_CACHE_ARCHITECTURES                                   \
    mor::Recursive<mor::Sequence, mor::RecursiveSharingCache>,           \
        mor::Recursive<mor::MiddleSequence, mor::RecursiveSharingCache>, \
        mor::Recursive<mor::MiddleCycle, mor::RecursiveSharingCache>,    \
        mor::MoRExpert<mor::Cycle, mor::RecursiveSharingCache>,          \
        mor::MoRExpert<mor::MiddleCycle, mor::RecursiveSharingCache>,    \
        mor::MoRToken<mor::MiddleCycle, mor::RecursiveSharingCache>

/// Layers of a vanilla model read the keys and values of others.
#define MOR_PATTERN_CACHE_ARCHITECTURES                                              \
    mor::test::VanillaPattern<mor::Cycle>, mor::test::VanillaPattern<mor::Sequence>, \
        mor::test::VanillaPattern<mor::MiddleCycle>

/// Later steps replace those of their own rows.
#define MOR_HYBRID_ARCHITECTURES                        \
    mor::MoRExpert<mor::MiddleCycle, mor::HybridCache>, \
        mor::MoRToken<mor::MiddleCycle, mor::HybridCache>

/// Once the first step is over, rows whose output nobody wants need not go on.
#define MOR_LAST_ROWS_ARCHITECTURES                                \
    mor::Recursive<mor::Cycle, mor::RecursiveSharingCache>,        \
        mor::Recursive<mor::Sequence, mor::RecursiveSharingCache>, \
        mor::MoRExpert<mor::Cycle, mor::RecursiveSharingCache>,    \
        mor::MoRToken<mor::Cycle, mor::RecursiveSharingCache>, mor::test::ExpertStepEmbedding

/// Every relaxation, every injection, and candidates that are chosen anew.
#define MOR_RELAXED_ARCHITECTURES                                                                  \
    mor::test::ExpertUnsharedNorms, mor::test::SequenceLowRank, mor::test::TokenRecursionEncoding, \
        mor::test::ExpertPrompt, mor::test::CycleInputInjection, mor::test::ExpertStepEmbedding,   \
        mor::test::IndependentSteps, mor::test::SandwichRandomDepth

/// Tokens leave when a gate says so.
#define MOR_HALTING_ARCHITECTURES mor::test::CyclePonder, mor::test::MiddleExitGate

namespace mor::test {

/// Middle-Cycle with any router.
template <class R>
struct RoutedBy : DefaultArchitecture {
    using Router = R;
};

using ExpertMlp = RoutedBy<ExpertChoiceRouter<MlpNetwork>>;
using ExpertAuxiliary = RoutedBy<ExpertChoiceRouter<LinearNetwork, AuxiliaryRouter<MlpNetwork>>>;
using TokenMlp = RoutedBy<TokenChoiceRouter<MlpNetwork>>;
using TokenLossFree = RoutedBy<TokenChoiceRouter<LinearNetwork, LossFreeBalancing>>;
using RandomRouted = RoutedBy<RandomChoice>;

template <SharingPolicy Pattern>
struct VanillaPattern : Vanilla {
    using Cache = PatternSharingCache<Pattern>;
};

struct ExpertUnsharedNorms : MoRExpert<> {
    using Relaxation = UnsharedNorms;
};
struct SequenceLowRank : Recursive<Sequence> {
    using Relaxation = LowRank;
};
struct TokenRecursionEncoding : MoRToken<> {
    using Relaxation = RecursionEncoding;
};
struct ExpertPrompt : MoRExpert<Cycle> {
    using Relaxation = AdaptionPrompt;
};
struct CycleInputInjection : Recursive<Cycle> {
    using Injection = InputInjection;
};
struct ExpertStepEmbedding : MoRExpert<Cycle, RecursiveSharingCache> {
    using Injection = StepEmbedding;
};

struct IndependentSteps : DefaultArchitecture {
    using Sharing = Alternating;
    using Router = ExpertChoiceRouter<LinearNetwork, AuxiliaryLoss, Independent>;
};
struct SandwichRandomDepth : DefaultArchitecture {
    using Sharing = Sandwich;
    using Router = RandomDepth;
    using Injection = InputInjection;
};
struct CyclePonder : DefaultArchitecture {
    using Sharing = Cycle;
    using Router = AdaptiveComputationTime;
};
struct MiddleExitGate : DefaultArchitecture {
    using Router = ExitGate;
};

/// Packed sequences with the storage that a Batch only looks at.
struct Sequences {
    std::vector<TokenId> tokens;
    std::vector<Index> lengths;

    [[nodiscard]] Batch batch() const { return {tokens, lengths}; }
    [[nodiscard]] Index offset(std::size_t sequence) const {
        Index sum = 0;
        for (std::size_t s = 0; s < sequence; ++s) {
            sum += lengths[s];
        }
        return sum;
    }
    /// `count` tokens of a sequence from `first` on.
    [[nodiscard]] std::vector<TokenId> piece(std::size_t sequence, Index first, Index count) const {
        const auto begin = tokens.begin() + offset(sequence) + first;
        return {begin, begin + count};
    }
};

[[nodiscard]] inline Sequences random_sequences(const std::vector<Index>& lengths, Index vocabulary,
                                                std::uint64_t seed = 1) {
    Random random{seed};
    Sequences sequences{{}, lengths};
    sequences.tokens =
        testing::uniform_integers<TokenId>(random, sequences.offset(lengths.size()), 0, vocabulary);
    return sequences;
}

/// Sizes for which a sharing with three recursions has two layers a step. Weights are large, so
/// that decisions are far from ties and mistakes are visible.
template <class A>
[[nodiscard]] ModelConfig small_config() {
    const std::string_view sharing = A::Sharing::name;
    return {.vocab_size = 29,
            .hidden_size = 16,
            .intermediate_size = 24,
            .num_layers = sharing == "sandwich"           ? 9
                          : sharing.starts_with("middle") ? 8
                                                          : 6,
            .num_heads = 4,
            .num_kv_heads = 2,
            .head_dim = 4,
            .max_positions = 64,
            .initializer_range = 0.3};
}

/// Gates far from zero and losses with weight, so that both matter.
template <class A>
[[nodiscard]] ArchitectureOptions<A> small_options() {
    ArchitectureOptions<A> options{};
    if constexpr (requires { options.cache.num_recursions; }) {
        options.cache.num_recursions = 2;
    }
    if constexpr (requires { options.sharing.prelude; }) {
        options.sharing.prelude = 1;
        options.sharing.coda = 2;
    }
    if constexpr (requires { options.router.causality; }) {
        options.router.alpha = 0.7;
        options.router.causality.coefficient = 0.3;
        if constexpr (shares_first_step<typename A::Cache>) {
            options.schedule.capacities = {0.8, 0.6, 0.4};  // rows that only give keys and values
        }
    }
    if constexpr (requires { options.router.rule; }) {
        options.router.rule.coefficient = 0.2;
    }
    if constexpr (requires { options.router.balancing; }) {
        options.router.alpha = 1.3;
        options.router.z_coefficient = 0.05;
    }
    if constexpr (requires { options.router.balancing.coefficient; }) {
        options.router.balancing.coefficient = 0.2;
    }
    return options;
}

/// Gives parameters that begin as zeros, so that they do nothing, random values.
template <class A, Backend B>
void fill_zero_parameters(Model<A, B>& model) {
    Random random{17};
    model.visit_parameters([&random](Parameter<B>& parameter) {
        const auto values = to_host(std::as_const(parameter).value());
        if (parameter.group() != OptimizerGroup::none &&
            std::all_of(values.begin(), values.end(), [](auto value) { return value == 0; })) {
            parameter.fill_normal(random, 0.3);
        }
    });
}

/// What a pass computed, in host memory.
template <class T>
struct Result {
    std::vector<T> logits;  // [rows, vocabulary]
    std::vector<Index> depths;
};

template <class A, Backend B>
[[nodiscard]] Result<typename B::Element> result_of(const Trace<A, B>& trace) {
    return {to_host(trace.logits), token_depths(trace)};
}

template <class A, Backend B>
[[nodiscard]] Result<typename B::Element> run_forward(const Model<A, B>& model,
                                                      const Sequences& sequences,
                                                      Decision decision) {
    Context<B> context{model.backend()};
    Trace<A, B> trace;
    model.forward(context, sequences.batch(), {.decision = decision}, trace);
    return result_of(trace);
}

/// The rows [first, first + count) of a matrix of logits.
template <class T>
[[nodiscard]] std::vector<T> rows_of(const std::vector<T>& logits, Index vocabulary, Index first,
                                     Index count) {
    return {logits.begin() + first * vocabulary, logits.begin() + (first + count) * vocabulary};
}

template <class T>
[[nodiscard]] double max_difference(const std::vector<T>& a, const std::vector<T>& b) {
    if (a.size() != b.size()) {
        return std::numeric_limits<double>::infinity();
    }
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        largest = std::isnan(largest) || difference <= largest ? largest : difference;
    }
    return largest;
}

/// The parameter of that name; nullptr if there is none.
template <class A, Backend B>
[[nodiscard]] Parameter<B>* find_parameter(Model<A, B>& model, const std::string& name) {
    Parameter<B>* found = nullptr;
    model.visit_parameters([&](Parameter<B>& parameter) {
        if (parameter.name() == name) {
            found = &parameter;
        }
    });
    return found;
}

/// Whether `run` throws exactly an E whose message holds all the parts.
template <class E>
[[nodiscard]] bool throws_with(const std::function<void()>& run,
                               const std::vector<std::string>& parts) {
    try {
        run();
    } catch (const E& error) {
        const std::string message = error.what();
        return std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
            return message.find(part) != std::string::npos;
        });
    } catch (...) {
    }
    return false;
}

}  // namespace mor::test
