// SPDX-License-Identifier: Apache-2.0
//
// Trainer: random windows, accumulated gradients, clipping, AdamW, one report an update. Its whole
// state is the weights, the optimiser's moments and a step number, so a run resumes bit for bit.
#pragma once

#include <mor/model/backward.hpp>
#include <mor/train/adamw.hpp>
#include <mor/train/dataset.hpp>
#include <mor/train/evaluate.hpp>
#include <mor/train/language_model_loss.hpp>
#include <mor/train/learning_rate.hpp>
#include <mor/train/router_metrics.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mor {

struct TrainerOptions {
    Index steps = 1'000;           // updates in all
    Index batch = 8;               // windows a micro-batch
    Index sequence = 256;          // tokens a window
    Index micro_batches = 1;       // accumulated into one update
    double gradient_clip = 1.0;    // largest global norm
    bool measures_routing = true;  // whether reports have router metrics
    std::uint64_t seed = 0;        // of the data order
    AdamWOptions optimizer = {};
    LearningRateSchedule schedule = {};

    static constexpr auto fields() {
        using O = TrainerOptions;
        return std::tuple{Field{"steps", &O::steps},
                          Field{"batch", &O::batch},
                          Field{"sequence", &O::sequence},
                          Field{"micro_batches", &O::micro_batches},
                          Field{"gradient_clip", &O::gradient_clip},
                          Field{"measures_routing", &O::measures_routing},
                          Field{"seed", &O::seed},
                          Field{"optimizer", &O::optimizer},
                          Field{"schedule", &O::schedule}};
    }
};

/// What happened in one update.
struct StepReport {
    Index step = 0;                     // completed updates, from 1
    Index tokens = 0;                   // trained on in this update
    double loss = 0;                    // language-model loss, nats a token
    std::vector<LossTerm> losses = {};  // the router's, if it has any
    double gradient_norm = 0;           // before clipping
    double learning_rate = 0;
    double flops = 0;                       // executed by products and attention in this update
    double seconds = 0;                     // wall time of this update
    std::vector<double> active_share = {};  // [recursion steps] rows that took each, over all rows
    std::optional<RouterMetrics> routing = {};  // of the last micro-batch
};

template <class A, Backend B, TokenStream D>
class Trainer {
public:
    /// Keeps references to model and data. Throws ConfigError if an option is impossible or the
    /// range is too short for a window.
    Trainer(Model<A, B>& model, const D& data, const TokenRange& range,
            const TrainerOptions& options)
        : model_{model},
          data_{data},
          range_{range},
          options_{options},
          optimizer_{model, options.optimizer},
          context_{model.backend()} {
        check<ConfigError>(options.steps >= 0 && options.batch > 0 && options.sequence > 0 &&
                               options.micro_batches > 0,
                           "mor::Trainer: steps, batch, sequence and micro_batches are ",
                           options.steps, ", ", options.batch, ", ", options.sequence, ", ",
                           options.micro_batches, "; expected positive numbers");
        check<ConfigError>(options.gradient_clip > 0, "mor::Trainer: gradient_clip is ",
                           options.gradient_clip, ", expected a positive number");
        check<ConfigError>(
            options.schedule.warmup_steps >= 0 && options.schedule.cooldown_steps >= 0,
            "mor::Trainer: warmup_steps and cooldown_steps are ", options.schedule.warmup_steps,
            ", ", options.schedule.cooldown_steps, "; expected 0 or more");
        check<ConfigError>(options.sequence <= model.config().max_positions,
                           "mor::Trainer: sequence is ", options.sequence,
                           ", the model's max_positions ", model.config().max_positions);
        check<ConfigError>(range.first >= 0 && range.last <= data.size(),
                           "mor::Trainer: ", data.name(), " has ", data.size(),
                           " tokens, the range is [", range.first, ", ", range.last, ")");
        check<ConfigError>(range.size() > options.sequence, "mor::Trainer: ", data.name(),
                           " offers ", range.size(), " tokens for training, one window needs ",
                           options.sequence + 1);
    }

    /// The stream must outlive the trainer.
    Trainer(Model<A, B>&, const D&&, const TokenRange&, const TrainerOptions&) = delete;

    /// One update. Throws NumericError, naming the step, if loss or gradient is not finite; the
    /// weights are then still those before the update.
    StepReport step() {
        const auto begin = std::chrono::steady_clock::now();
        const double flops_before = context_.flops();
        StepReport report{.step = completed_ + 1};
        const double factor = options_.schedule.factor(completed_, options_.steps);
        report.learning_rate = factor * options_.optimizer.learning_rate;
        optimizer_.begin_update(factor);
        loss_and_norms_.zero();
        model_.zero_gradients();
        for (Index micro = 0; micro < options_.micro_batches; ++micro) {
            accumulate(micro, report);
        }
        const auto norms = loss_and_norms_.view().slice(1, num_trained_groups);
        optimizer_.update(context_, model_, options_.gradient_clip, loss(), norms);
        read_numbers(report);
        model_.after_update();
        ++completed_;
        report.flops = context_.flops() - flops_before;
        report.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        return report;
    }

    /// Changes how many updates the run has in all, while the rate is still constant: a trapezoid
    /// whose cool-down begins later or earlier is the same so far. A run that is resumed must be
    /// given the new count. Throws ConfigError for a cosine, or if the old or the new cool-down
    /// lies in the past.
    void plan_steps(Index steps) {
        const LearningRateSchedule& schedule = options_.schedule;
        check<ConfigError>(schedule.shape == ScheduleShape::trapezoid,
                           "mor::Trainer: only a trapezoid schedule can be planned again");
        check<ConfigError>(completed_ <= std::min(steps, options_.steps) - schedule.cooldown_steps,
                           "mor::Trainer: ", steps, " steps cannot be planned instead of ",
                           options_.steps, " after ", completed_,
                           " have been made: a cool-down of ", schedule.cooldown_steps,
                           " would have begun");
        options_.steps = steps;
    }

    /// Updates until options.steps are done. The callback is given each StepReport; if it returns
    /// a bool, false stops the run. Throws as step() does.
    template <std::invocable<const StepReport&> Callback>
    void run(Callback&& callback) {
        while (completed_ < options_.steps) {
            if constexpr (std::is_void_v<std::invoke_result_t<Callback&, const StepReport&>>) {
                callback(step());
            } else if (!callback(step())) {
                return;
            }
        }
    }

    [[nodiscard]] const D& data() const { return data_; }
    [[nodiscard]] const TokenRange& range() const { return range_; }
    [[nodiscard]] Index completed_steps() const { return completed_; }
    [[nodiscard]] const TrainerOptions& options() const { return options_; }
    [[nodiscard]] Model<A, B>& model() { return model_; }
    [[nodiscard]] AdamW<B>& optimizer() { return optimizer_; }
    [[nodiscard]] Context<B>& context() { return context_; }

    /// Continues from a checkpoint: weights and moments have been restored.
    void set_completed_steps(Index steps) {
        completed_ = steps;
        optimizer_.set_updates(steps);
    }

private:
    [[nodiscard]] SumView<B> loss() { return loss_and_norms_.view().slice(0, 1); }

    void accumulate(Index micro, StepReport& report) {
        const Index draw = completed_ * options_.micro_batches + micro;
        batch_ = random_windows(data_, range_, options_.batch, options_.sequence, options_.seed,
                                static_cast<std::uint64_t>(draw), std::move(batch_));
        const double share = 1.0 / static_cast<double>(options_.micro_batches);
        const double scale = share / static_cast<double>(batch_.targets.size());
        model_.forward(context_, {batch_.tokens, batch_.lengths},
                       {.decision = Decision::look_ahead,
                        .training_step = completed_ + 1,
                        .computes_logits = false},
                       trace_);
        const MatrixView<B> dnormed =
            context_.matrix(trace_.normed.rows(), trace_.normed.columns());
        language_model_loss(model_, context_, trace_, batch_.targets, scale, loss(), dnormed);
        report.tokens += std::ssize(batch_.targets);
        backward_below_head(
            model_, context_, trace_, dnormed,
            {.loss_scale = share, .losses = micro == 0 ? Write::overwrite : Write::accumulate});
        report.active_share.resize(trace_.steps.size(), 0.0);
        for (std::size_t r = 0; r < trace_.steps.size(); ++r) {
            report.active_share[r] += share * static_cast<double>(trace_.steps[r].active.size()) /
                                      static_cast<double>(trace_.rows.size());
        }
    }

    /// What the update left in the backend's memory. Throws NumericError if it changed nothing,
    /// because a number is not finite.
    void read_numbers(StepReport& report) {
        std::array<double, 1 + num_trained_groups> numbers{};
        B::Space::copy_to_host(numbers.data(), loss_and_norms_.view().data(), sizeof(numbers));
        report.loss = numbers[0];
        report.gradient_norm = numbers[1 + static_cast<std::size_t>(OptimizerGroup::model)];
        if (!std::ranges::all_of(numbers, [](double x) { return std::isfinite(x); })) {
            optimizer_.set_updates(completed_);
            fail<NumericError>("mor::Trainer: step ", report.step, " on ", data_.name(),
                               ": loss is ", report.loss, " and the gradient's norm ",
                               report.gradient_norm);
        }
        report.losses = trace_.losses.to_host();
        if (options_.measures_routing) {
            report.routing = measure_routing(model_.router(), trace_);
        }
    }

    Model<A, B>& model_;
    const D& data_;
    TokenRange range_;
    TrainerOptions options_;
    AdamW<B> optimizer_;
    Context<B> context_;
    Trace<A, B> trace_;
    Tensor<double, 1, typename B::Space> loss_and_norms_{{1 + num_trained_groups}};
    WindowBatch batch_;
    Index completed_ = 0;
};

}  // namespace mor
