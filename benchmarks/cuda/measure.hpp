// SPDX-License-Identifier: Apache-2.0
//
// Measures a model on a CUDA backend: updates, prefill, decoding, routing. The host's clock is read
// when the GPU has been waited for. Which system the backend is on says under_test.hpp, found by
// the include path.
#pragma once

#include "case.hpp"
#include "noise.hpp"
#include "quantile.hpp"
#include "reads.hpp"
#include "shapes.hpp"
#include "stopwatch.hpp"
#include "under_test.hpp"
#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/model/presets.hpp>
#include <mor/train/trainer.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <sys/resource.h>
#include <utility>
#include <vector>

namespace benchmarks {

/// The least that a product of rounded factors can read of a weight.
template <class S>
inline constexpr double weight_bytes<mor::Cuda<float, mor::cuda::BFloat16Products<S>>> =
    sizeof(mor::BFloat16);

namespace detail {

/// The backend for training, which need not give a row the same bits in any batch.
template <class B>
[[nodiscard]] B training_backend() {
    using System = typename B::System;
    if constexpr (requires { System{typename System::Options{.batch_invariant = false}}; }) {
        return B{System{typename System::Options{.batch_invariant = false}}};
    } else {
        return B{};
    }
}

/// Whether work of the backend can become graphs.
template <class B>
inline constexpr bool has_graphs =
    requires(typename B::System::Options options) { options.graphs = true; };

/// The backend for inference, as it comes but for graphs: a row's bits do not depend on the batch.
template <class B>
[[nodiscard]] B inference_backend(bool graphs) {
    using System = typename B::System;
    if constexpr (has_graphs<B>) {
        return B{System{typename System::Options{.graphs = graphs}}};
    } else {
        return B{};
    }
}

/// What was held so far belongs to no measurement.
template <class B>
void start_peak() {
    if constexpr (requires { B::Space::reset_high_water(); }) {
        B::Space::release_unused();
        B::Space::reset_high_water();
    }
}
/// The most that was in use since then: of the GPU's memory, else of this process's since it began.
template <class B>
[[nodiscard]] double peak_bytes() {
    if constexpr (requires { B::Space::memory().most_used; }) {
        return static_cast<double>(B::Space::memory().most_used);
    } else {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        return 1'024.0 * static_cast<double>(usage.ru_maxrss);
    }
}

/// Seconds of `function`, again and again: `repeats` times, but after `most_seconds` only thrice.
template <class B, class Function>
[[nodiscard]] std::vector<double> time(Index repeats, double most_seconds, Function&& function) {
    using Clock = std::chrono::steady_clock;
    constexpr Index fewest = 3;
    std::vector<double> seconds;
    double sum = 0;
    for (Index i = 0; i < repeats && (i < fewest || sum < most_seconds); ++i) {
        wait_for<B>();
        const auto start = Clock::now();
        function();
        wait_for<B>();
        seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
        sum += seconds.back();
    }
    return seconds;
}

template <class A, class B>
class ModelBench {
public:
    ModelBench(const Shape<A>& shape, const Settings& settings)
        : settings_{settings},
          backend_{training_backend<B>()},
          model_{backend_, shape.sizes, shape.options, settings.seed},
          noise_{model_.config().vocab_size} {}

    Result run() {
        Result result{.num_parameters = model_.num_parameters()};
        result.training.push_back(train());
        for (const Index batch : settings_.decode_batches) {
            infer(batch, result.passes);
        }
        if constexpr (mor::LearnedRouter<typename A::Router, B>) {
            result.routing.push_back(route());
        }
        return result;
    }

private:
    TrainingResult train() {
        mor::Trainer trainer{model_,
                             noise_,
                             {0, Noise::size()},
                             {.steps = Index{1} << 20,
                              .batch = settings_.batch,
                              .sequence = settings_.sequence,
                              .measures_routing = false}};
        trainer.step();  // allocates
        trainer.step();  // makes one piece of what was allocated
        mor::StepReport report;
        TrainingResult result;
        result.seconds =
            time<B>(settings_.repeats, settings_.part_seconds, [&] { report = trainer.step(); });
        result.tokens = report.tokens;
        result.flops = report.flops;
        result.loss = report.loss;
        result.active_share = report.active_share;
        result.activation_bytes = static_cast<double>(trainer.context().arena().capacity_bytes());
        result.peak_bytes = peak_bytes<B>();
        return result;
    }

    /// Tokens of so many sequences.
    std::vector<mor::TokenId> draw(Index batch, Index length) {
        std::vector<mor::TokenId> tokens(static_cast<std::size_t>(batch * length));
        noise_.read(next_++, tokens);
        return tokens;
    }

    /// A prefill of each sequence, then tokens one by one.
    void infer(Index batch, std::vector<PassResult>& results) {
        infer(false, batch, results);
        if constexpr (detail::has_graphs<B>) {
            infer(true, batch, results);
        }
    }

    void infer(bool graphs, Index batch, std::vector<PassResult>& results) {
        B backend = detail::inference_backend<B>(graphs);
        mor::Context<B> context{backend};
        mor::Trace<A, B> trace;
        auto cache = model_.make_cache(batch);
        double bytes = 0;
        const auto extend = [&](const std::vector<mor::TokenId>& tokens) {
            const std::vector<Index> lengths(static_cast<std::size_t>(batch),
                                             std::ssize(tokens) / batch);
            ReadCounter<B> counter{model_.config()};
            model_.extend(context, {tokens, lengths}, cache, trace,
                          {.logits = mor::Logits::last_rows}, counter);
            // Rows of one prompt share what they read of the keys.
            const Reads reads = counter.reads();
            bytes += std::ssize(tokens) > batch ? reads.weights : reads.sum();
        };
        const auto measure = [&](const char* what, Index length, Index repeats, auto&& pass) {
            pass();
            pass();
            const double flops = context.flops();
            bytes = 0;
            PassResult result{.what = what, .batch = batch, .tokens = batch * length};
            result.seconds = time<B>(repeats, settings_.part_seconds, pass);
            const auto count = static_cast<double>(result.seconds.size());
            result.flops = (context.flops() - flops) / count;
            result.bytes = bytes / count;
            results.push_back(std::move(result));
        };
        const std::vector<mor::TokenId> prompt = draw(batch, settings_.prompt);
        if (graphs) {
            extend(prompt);
        } else {
            measure("prefill", settings_.prompt, settings_.repeats, [&] {
                for (Index s = 0; s < batch; ++s) {
                    cache.clear(s);
                }
                extend(prompt);
            });
        }
        const std::vector<mor::TokenId> next = draw(batch, 1);
        measure(graphs ? "decode in graphs" : "decode", 1, settings_.decoded,
                [&] { extend(next); });
    }

    /// Forward passes at the size of an update.
    RoutingResult route() {
        mor::Context<B> context{backend_};
        mor::Trace<A, B> trace;
        const std::vector<mor::TokenId> tokens = draw(settings_.batch, settings_.sequence);
        const std::vector<Index> lengths(static_cast<std::size_t>(settings_.batch),
                                         settings_.sequence);
        std::vector<double> gather, select, compact, merge, block, backward;
        const auto pass = [&] {
            Stopwatch<B> watch{context};
            model_.forward(context, {tokens, lengths},
                           {.training_step = 1, .computes_logits = false}, trace, watch);
            const double routers = 1e6 * backward_of_routers(context, trace);
            const auto keep = [&](std::vector<double>& all, mor::StepPhase phase) {
                all.push_back(1e6 * watch.seconds(phase));
            };
            keep(gather, mor::StepPhase::gather);
            keep(select, mor::StepPhase::select);
            keep(compact, mor::StepPhase::compact);
            keep(merge, mor::StepPhase::merge);
            keep(block, mor::StepPhase::block);
            backward.push_back(routers);
        };
        pass();
        pass();
        for (auto* const all : {&gather, &select, &compact, &merge, &block, &backward}) {
            all->clear();
        }
        static_cast<void>(time<B>(settings_.repeats, settings_.part_seconds, pass));
        return {.steps = std::ssize(trace.steps),
                .gather_us = quantile(gather, 0.5),
                .select_us = quantile(select, 0.5),
                .compact_us = quantile(compact, 0.5),
                .merge_us = quantile(merge, 0.5),
                .block_us = quantile(block, 0.5),
                .backward_us = quantile(backward, 0.5)};
    }

    /// Seconds of the routers' losses and gradients, for the pass of the trace.
    double backward_of_routers(mor::Context<B>& context, mor::Trace<A, B>& trace) {
        mor::LossTerms<B> losses;
        double seconds = 0;
        for (std::size_t i = trace.steps.size(); i > 0; --i) {
            auto& step = trace.steps[i - 1];
            const auto weight = context.zero_vector(step.weight.size());
            const auto hidden =
                context.zero_matrix(step.view.num_candidates(), model_.config().hidden_size);
            const std::vector<double> once = time<B>(1, 0, [&] {
                model_.router().backward(context, model_.router_weights(), step.view, step.kept,
                                         trace.router,
                                         mor::StepGradient<B>{weight, hidden, 1.0, &losses});
            });
            seconds += once.front();
        }
        return seconds;
    }

    Settings settings_;
    B backend_;
    mor::Model<A, B> model_;
    Noise noise_;
    Index next_ = 0;
};

template <class A, class B>
[[nodiscard]] Result measure_as(const Case& which, const Settings& settings) {
    start_peak<B>();
    mor::ModelConfig sizes = sizes_of(which.shape);
    sizes.max_positions = std::max(settings.sequence, settings.prompt + settings.decoded + 2);
    return ModelBench<A, B>{Shape<A>{sizes, which.num_recursions}, settings}.run();
}

}  // namespace detail

/// Throws mor::Error.
template <class B>
[[nodiscard]] Result measure(const Case& which, const Settings& settings) {
    switch (which.kind) {
        case Kind::vanilla:
            break;
        case Kind::recursive:
            return detail::measure_as<mor::Recursive<>, B>(which, settings);
        case Kind::mor:
            return detail::measure_as<mor::MoRExpert<>, B>(which, settings);
    }
    return detail::measure_as<mor::Vanilla, B>(which, settings);
}

}  // namespace benchmarks
