// SPDX-License-Identifier: Apache-2.0
//
// Routing strategies in real models, step by step: what choosing, compacting, gathering and merging
// rows cost beside the shared block, and how much of the operations saved is time saved. A router
// of your own joins with one line in main, as Parity does.
#include "run.hpp"
#include "selection_algorithms.hpp"
#include "serving.hpp"
#include "stopwatch.hpp"
#include <mor/mor.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using benchmarks::Stopwatch;
using mor::Decision;
using mor::Index;
using mor::StepPhase;
using Clock = std::chrono::steady_clock;

benchmarks::Roofline roofline;

/// The model, and what passes through it. Two layers a step, so that the rest weighs more than in a
/// deeper block.
struct Setting {
    Index width = 576;
    Index sequences = 4;
    Index length = 512;
    Index num_recursions = 3;
    double last_capacity = 0;  // 0: the schedule's default; else steps fall evenly from 1 to it
    Decision decision = Decision::look_ahead;

    [[nodiscard]] mor::ModelConfig sizes() const {
        return {.vocab_size = 256,  // the head is not what is measured
                .hidden_size = width,
                .intermediate_size = width == 2'048 ? 8'192 : width * 8 / 3,
                .num_layers = 2 + 2 * num_recursions,
                .num_heads = width / 64,
                .num_kv_heads = width == 2'048 ? 8 : width / 192,
                .head_dim = 64,
                .max_positions = length};
    }
    [[nodiscard]] std::vector<double> capacities() const {
        std::vector<double> list;
        for (Index step = 0; last_capacity > 0 && step < num_recursions; ++step) {
            list.push_back(1 + (last_capacity - 1) * static_cast<double>(step) /
                                   static_cast<double>(num_recursions - 1));
        }
        return list;
    }
};

template <class R>
struct RoutedBy : mor::DefaultArchitecture {
    using Router = R;
};

/// A model, tokens for it, and what one pass took.
template <class A, class B>
class Bench {
public:
    struct Pass {
        Stopwatch<B> watch;
        double score = 0;   // seconds in the router's network alone, which is part of select
        double losses = 0;  // seconds in the router's backward pass
        double bytes = 0;   // read and written by gathering and merging

        [[nodiscard]] double block() const { return watch.seconds(StepPhase::block); }
        /// Everything in the recursion steps but the block.
        [[nodiscard]] double overhead() const {
            return watch.seconds(StepPhase::gather) + watch.seconds(StepPhase::select) +
                   watch.seconds(StepPhase::compact) + watch.seconds(StepPhase::merge);
        }
        [[nodiscard]] double recursion_flops() const {
            return watch.flops(StepPhase::block) + watch.flops(StepPhase::select);
        }
    };

    Bench(B& cpu, const Setting& setting, const mor::ArchitectureOptions<A>& options)
        : setting_{setting}, model_{cpu, setting.sizes(), options, 1}, context_{cpu} {
        mor::Random random{1};
        for (Index i = 0; i < setting.sequences * setting.length; ++i) {
            tokens_.push_back(static_cast<mor::TokenId>(random.below(256)));
        }
        lengths_.assign(static_cast<std::size_t>(setting.sequences), setting.length);
    }

    Pass run() {
        Pass pass{Stopwatch<B>{context_}};
        // The limit limits nothing, but models without routing then run step by step, too.
        model_.forward(
            context_, {tokens_, lengths_},
            {.decision = setting_.decision, .depth = {.max_depth = setting_.num_recursions}},
            trace_, pass.watch);
        pass.bytes = moved_bytes();
        pass.score = time_scores();
        pass.losses = time_losses();
        return pass;
    }

    [[nodiscard]] double max_violation() {
        const auto metrics = mor::measure_routing(model_.router(), trace_);
        return metrics ? metrics->max_violation : 0;
    }

private:
    /// Candidates are gathered for the router, and those that it keeps for the block; these replace
    /// the rows that they came from, or are added to them.
    [[nodiscard]] double moved_bytes() const {
        constexpr Index merge = std::same_as<typename A::Router::Merge, mor::GateEachStep> ? 3 : 2;
        Index rows = 0;
        for (const auto& step : trace_.steps) {
            rows += 2 * step.view.num_candidates() + (2 + merge) * step.kept.size();
        }
        return static_cast<double>(rows * setting_.width) * sizeof(float);
    }

    /// Seconds in the router's networks, for the candidates of the pass.
    double time_scores() {
        double seconds = 0;
        if constexpr (mor::LearnedRouter<typename A::Router, B>) {
            const auto time = [&](auto& network, mor::ConstMatrixView<B> hidden, Index outputs) {
                const auto scores = context_.matrix(hidden.rows(), outputs);
                typename std::remove_cvref_t<decltype(network)>::Saved saved{};
                // In the pass, too, the hidden states have just been gathered.
                network.forward(context_, hidden, scores, saved);
                const auto start = Clock::now();
                network.forward(context_, hidden, scores, saved);
                seconds += std::chrono::duration<double>(Clock::now() - start).count();
            };
            auto& weights = model_.router_weights();
            for (const auto& step : trace_.steps) {
                if constexpr (requires { weights.at(Index{}).network; }) {
                    time(weights.at(step.view.step).network, step.view.hidden, 1);
                } else if (step.view.step == 0) {
                    time(weights.network, step.view.hidden, setting_.num_recursions);
                }
            }
        }
        return seconds;
    }

    /// Seconds in the router's backward pass: its losses and their gradients.
    double time_losses() {
        double seconds = 0;
        if constexpr (mor::LearnedRouter<typename A::Router, B>) {
            mor::LossTerms<B> losses;
            for (std::size_t i = trace_.steps.size(); i > 0; --i) {
                auto& step = trace_.steps[i - 1];
                const auto weight = context_.zero_vector(step.weight.size());
                const auto hidden =
                    context_.zero_matrix(step.view.num_candidates(), setting_.width);
                const auto start = Clock::now();
                model_.router().backward(context_, model_.router_weights(), step.view, step.kept,
                                         trace_.router,
                                         mor::StepGradient<B>{weight, hidden, 1.0, &losses});
                seconds += std::chrono::duration<double>(Clock::now() - start).count();
            }
        }
        return seconds;
    }

    Setting setting_;
    mor::Model<A, B> model_;
    mor::Context<B> context_;
    mor::Trace<A, B> trace_;
    std::vector<mor::TokenId> tokens_;
    std::vector<Index> lengths_;
};

/// Routed and dense passes in turn; medians over the repetitions. A routed pass is compared with
/// the mean of the dense ones before and after it, so that a machine that grows slower does not
/// count.
template <class R, class B>
void measure(benchmark::State& state, const Setting& setting) {
    using A = RoutedBy<R>;
    using Dense = mor::Recursive<>;
    B cpu;
    Bench<A, B> routed{cpu,
                       setting,
                       {.sharing = {.num_recursions = setting.num_recursions},
                        .schedule = {.capacities = setting.capacities()}}};
    Bench<Dense, B> dense{cpu, setting, {.sharing = {.num_recursions = setting.num_recursions}}};
    routed.run();
    dense.run();  // packs the weights
    double dense_before = dense.run().block();
    std::map<std::string, std::vector<double>> found;
    for (auto _ : state) {
        const auto pass = routed.run();
        const auto all = dense.run();
        const double dense_block = 0.5 * (std::exchange(dense_before, all.block()) + all.block());
        const double seconds = pass.block() + pass.overhead();
        state.SetIterationTime(seconds);
        const auto add = [&](const char* name, double value) { found[name].push_back(value); };
        add("score_us", 1e6 * pass.score);
        add("select_us", 1e6 * std::max(0.0, pass.watch.seconds(StepPhase::select) - pass.score));
        add("compact_us", 1e6 * pass.watch.seconds(StepPhase::compact));
        add("gather_us", 1e6 * pass.watch.seconds(StepPhase::gather));
        add("merge_us", 1e6 * pass.watch.seconds(StepPhase::merge));
        add("losses_us", 1e6 * pass.losses);
        add("block_us", 1e6 * pass.block());
        add("dense_block_us", 1e6 * dense_block);
        add("overhead", pass.overhead() / pass.block());
        add("of_flops", pass.watch.flops(StepPhase::block) / pass.block() / roofline.flops_of<B>());
        add("moved_bytes", pass.bytes);
        add("block_flops", pass.watch.flops(StepPhase::block));
        add("time_saved", 1 - seconds / dense_block);
        add("flops_saved", 1 - pass.recursion_flops() / all.recursion_flops());
    }
    for (const auto& [name, values] : found) {
        state.counters[name] = serving::quantile(values, 0.5);
    }
    state.counters["max_violation"] = routed.max_violation();
}

/// How far a strategy is measured: at the base setting and two others, along the axes, or along
/// them to their ends and over capacities.
enum class Axes { few, most, all };

/// Measures a strategy at the base setting and along axes from there.
template <class R>
void add_strategy(const std::string& name, Axes axes, Decision decision = Decision::look_ahead) {
    const auto add_on = [&](auto* measured, const std::string& where, Setting setting,
                            int repetitions) {
        setting.decision = decision;
        benchmark::RegisterBenchmark((name + "/" + where).c_str(), measured, setting)
            ->UseManualTime()
            ->Iterations(repetitions)
            ->Unit(benchmark::kMillisecond);
    };
    const auto add = [&](const std::string& where, const Setting& setting, int repetitions = 5) {
        add_on(measure<R, Cpu>, where, setting, repetitions);
    };
    const auto add_length = [&](Index length, int repetitions) {
        add("length:" + std::to_string(length), {.sequences = 1, .length = length}, repetitions);
    };
    add("base", {});
    add_length(2'048, 5);
    add("sequences:32", {.sequences = 32}, 3);
    if (axes == Axes::few) {
        return;
    }
    add_length(1'024, 5);
    add_length(4'096, 3);
    for (const Index num_recursions : {2, 4}) {
        add("recursions:" + std::to_string(num_recursions), {.num_recursions = num_recursions});
    }
    add("width:960", {.width = 960, .sequences = 2});
    add("sequences:1", {.sequences = 1});
    add_on(measure<R, serving::RoundingCpu>, "backend:bfloat16", {}, 5);
    if (axes == Axes::most) {
        return;
    }
    add_length(8'192, 3);
    add("width:2048", {.width = 2'048, .sequences = 2}, 3);
    if constexpr (std::same_as<R, mor::ExpertChoice>) {  // others decide how many they keep
        for (const int percent : {90, 75, 50, 25, 12}) {
            add("capacity:" + std::to_string(percent), {.last_capacity = percent / 100.0});
        }
    }
}

/// Expert-choice that chooses its rows by another algorithm. It always looks ahead.
template <class Algorithm>
class ChosenBy {
    using Base = mor::ExpertChoice;

public:
    static constexpr std::string_view name = Algorithm::name;
    using Merge = Base::Merge;
    using Options = Base::Options;
    template <mor::Backend B>
    using Weights = Base::Weights<B>;
    template <mor::Backend B>
    using Record = Base::Record<B>;

    explicit ChosenBy(const Options& options) : options_{options}, base_{options} {}

    template <mor::HostBackend B>
    Index select(mor::Context<B>& context, const Weights<B>& weights, const mor::StepView<B>& step,
                 Record<B>& record) const {
        if (step.step == 0) {
            record.steps.clear();
        }
        auto& own = record.steps.emplace_back();
        const Index candidates = step.num_candidates();
        own.hidden = step.hidden;
        own.scores = context.matrix(candidates, 1);
        own.gates = context.matrix(candidates, 1);
        const auto& mine = weights.at(step.step);
        mine.network.forward(context, own.hidden, own.scores, own.network);
        mor::ops::gate<B>(context, options_.gate, own.scores, options_.alpha, own.gates);
        base_.causality().predict(context, mine.causality, step.hidden, own.causality);
        const auto counts = context.indices(step.entered.num_sequences());
        mor::ops::capacity_counts<B>(context, step.entered.offsets, step.capacity, counts);
        Index kept = 0;
        for (Index s = 0; s < step.rows.num_sequences(); ++s) {
            const Index first = step.rows.offsets[s];
            const Index rows = step.rows.offsets[s + 1] - first;
            const Index most = std::min(rows, counts[s]);
            choose_({own.scores.data() + first, static_cast<std::size_t>(rows)},
                    step.kept.data() + kept, most);
            for (const Index last = kept + most; kept < last; ++kept) {
                step.kept[kept] += first;
            }
        }
        mor::ops::gather_rows<B>(context, own.gates, step.kept.slice(0, kept),
                                 {step.weight.data(), {kept, 1}});
        return kept;
    }

    template <mor::HostBackend B>
    void backward(mor::Context<B>& context, Weights<B>& weights, const mor::StepView<B>& step,
                  mor::ConstIndexView<B> kept, Record<B>& record,
                  const mor::StepGradient<B>& gradient) const {
        base_.backward(context, weights, step, kept, record, gradient);
    }
    [[nodiscard]] const auto& causality() const { return base_.causality(); }

private:
    Options options_;
    Base base_;
    mutable Algorithm choose_;  // keeps its memory
};

/// Chooses by the parity of a number in the hidden state: what a strategy of one's own looks like.
struct Parity {
    static constexpr std::string_view name = "benchmark.parity";
    using Merge = mor::Replace;
    struct Options {};
    explicit Parity(const Options& /*options*/) {}
    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        Index kept = 0;
        for (Index i = 0; i < step.num_candidates(); ++i) {
            step.kept[kept] = i;
            kept += step.step == 0 || step.hidden(i, 0) > 0 ? 1 : 0;
        }
        return kept;
    }
};

}  // namespace

int main(int argc, char** argv) {
    roofline = benchmarks::add_roofline(Cpu{}.threads());
    add_strategy<mor::ExpertChoice>("expert_choice", Axes::all);
    add_strategy<ChosenBy<benchmarks::NthElementOfValues>>("expert_choice, nth_element of values",
                                                           Axes::few);
    add_strategy<ChosenBy<benchmarks::NthElementOfIndices>>("expert_choice, nth_element of indices",
                                                            Axes::few);
    add_strategy<ChosenBy<benchmarks::PartialSortOfIndices>>("expert_choice, partial_sort",
                                                             Axes::few);
    add_strategy<mor::ExpertChoice>("threshold", Axes::most, Decision::causal);
    add_strategy<mor::ExpertChoiceRouter<mor::LinearNetwork, mor::AuxiliaryRouter<>>>(
        "auxiliary_router", Axes::most, Decision::causal);
    add_strategy<mor::TokenChoice>("token_choice", Axes::all);
    add_strategy<mor::TokenChoiceRouter<mor::LinearNetwork, mor::LossFreeBalancing>>("loss_free",
                                                                                     Axes::most);
    add_strategy<mor::RandomChoice>("random", Axes::most);
    add_strategy<mor::FixedDepth>("fixed", Axes::most);
    add_strategy<Parity>("parity", Axes::few);
    return benchmarks::run(argc, argv);
}
