// SPDX-License-Identifier: Apache-2.0
//
// One model of the comparison: how fast it trains, and its training under a budget of operations.
#pragma once

#include "console.hpp"
#include "measure.hpp"
#include "result.hpp"
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace quickstart {

/// Set by Ctrl-C: finish the step, save, stop.
inline std::atomic<bool> interrupted = false;

/// What all contenders share.
struct Setting {
    Backend& backend;
    const mor::io::ByteCorpus& corpus;
    mor::DataSplit data;
    std::filesystem::path output;
    std::string prompt;
    std::uint64_t seed = 1;
    mor::Index batch = 4;  // small: at this budget many updates beat large ones
    mor::Index sequence = 256;
    double learning_rate = 3e-3;
};

struct Speed {
    double flops_per_step = 0;
    double seconds_per_step = 0;
};

template <class A>
class Contender {
public:
    Contender(std::string name, std::string description, const mor::ModelConfig& config,
              const mor::ArchitectureOptions<A>& options)
        : name_{std::move(name)},
          description_{std::move(description)},
          config_{config},
          options_{options} {}

    /// Operations and time of one update, from a few updates of a model that is thrown away.
    [[nodiscard]] Speed measure_speed(const Setting& setting) const {
        mor::Model<A, Backend> model{setting.backend, config_, options_, setting.seed};
        mor::Trainer trainer{model, setting.corpus, setting.data.training,
                             trainer_options(setting, 8)};
        Speed speed;
        trainer.run([&](const mor::StepReport& report) {
            speed.flops_per_step = report.flops;
            // The first update allocates; the fastest of the others is the machine undisturbed.
            speed.seconds_per_step = report.step <= 2
                                         ? report.seconds
                                         : std::min(speed.seconds_per_step, report.seconds);
        });
        return speed;
    }

    /// Trains for as many updates as the budget allows and measures the model. Saves it below the
    /// output directory; after Ctrl-C it saves a training checkpoint instead, which is also a
    /// model.
    [[nodiscard]] Result train(const Setting& setting, double flops, const Speed& speed) const {
        const auto steps =
            std::max<mor::Index>(10, static_cast<mor::Index>(flops / speed.flops_per_step));
        mor::Model<A, Backend> model{setting.backend, config_, options_, setting.seed};
        mor::Trainer trainer{model, setting.corpus, setting.data.training,
                             trainer_options(setting, steps)};
        Result result{.name = name_, .description = description_};
        result.unique_parameters = model.num_parameters();
        result.effective_layers = config_.num_layers;
        const std::filesystem::path directory = setting.output / file_name();
        std::filesystem::create_directories(directory);
        std::filesystem::remove(directory / "metrics.jsonl");
        mor::MetricsFile metrics{directory / "metrics.jsonl"};
        Progress progress{name_};
        const mor::Index cooldown = trainer.options().schedule.cooldown_steps;
        mor::Index next_plan = steps / 2;
        trainer.run([&](const mor::StepReport& report) {
            result.training_flops += report.flops;
            if (report.step == next_plan && report.step <= trainer.options().steps - cooldown) {
                // A step's operations vary with the routing: plan again by what they were so far,
                // half way and just before the cool-down.
                const double mean = result.training_flops / static_cast<double>(report.step);
                trainer.plan_steps(std::max(report.step + cooldown,
                                            static_cast<mor::Index>(std::round(flops / mean))));
                next_plan = std::max(report.step + 1, trainer.options().steps - cooldown);
            }
            metrics.write(report);
            progress.show(report, trainer.options().steps);
            record(setting, model, report, trainer.options().steps, progress, result);
            return !interrupted;
        });
        if (trainer.completed_steps() < trainer.options().steps) {
            mor::save_training(trainer, directory / "interrupted");
            std::printf(
                "\nInterrupted. The model so far is in %s,\nas generate and load_any read it.\n",
                (directory / "interrupted").c_str());
            return result;
        }
        mor::save_model(model, directory / "model");
        result.training_seconds = progress.seconds();
        result.training_tokens = progress.tokens();
        measure(setting, model, result);
        return result;
    }

private:
    [[nodiscard]] mor::TrainerOptions trainer_options(const Setting& setting,
                                                      mor::Index steps) const {
        return {.steps = steps,
                .batch = setting.batch,
                .sequence = setting.sequence,
                .seed = setting.seed,
                .optimizer = {.learning_rate = setting.learning_rate},
                .schedule = {.warmup_steps = std::min<mor::Index>(50, steps / 10),
                             .cooldown_steps = steps / 4}};
    }

    [[nodiscard]] std::string file_name() const {
        std::string name;
        for (const char c : name_) {
            const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
            name += plain ? static_cast<char>(std::tolower(static_cast<unsigned char>(c))) : '_';
        }
        return name;
    }

    /// Points of the report's curves: training loss 100 times, held-out loss 10 times.
    void record(const Setting& setting, const mor::Model<A, Backend>& model,
                const mor::StepReport& report, mor::Index steps, const Progress& progress,
                Result& result) const {
        const auto crosses = [&](mor::Index points) {
            return report.step * points / steps != (report.step - 1) * points / steps;
        };
        if (crosses(100)) {
            result.curve.push_back({{"flops", result.training_flops},
                                    {"seconds", progress.seconds()},
                                    {"bits_per_byte", progress.bits_per_byte()}});
            if (!report.active_share.empty()) {
                result.active_share.push_back(
                    {{"flops", result.training_flops}, {"shares", report.active_share}});
            }
        }
        if (crosses(10)) {
            mor::Context<Backend> context{setting.backend};
            const auto sample =
                mor::evaluate(model, context, setting.corpus, setting.data.held_out,
                              {.batch = 8, .sequence = setting.sequence, .max_windows = 16});
            result.held_out_curve.push_back(
                {{"flops", result.training_flops}, {"bits_per_byte", sample.bits_per_token()}});
        }
    }

    void measure(const Setting& setting, const mor::Model<A, Backend>& model,
                 Result& result) const {
        mor::Context<Backend> context{setting.backend};
        mor::EvaluationOptions options{.batch = setting.batch, .sequence = setting.sequence};
        const auto held_out = setting.data.held_out;
        result.bits_per_byte =
            mor::evaluate(model, context, setting.corpus, held_out, options).bits_per_token();
        const mor::Index passage_length = std::min<mor::Index>(1'000, held_out.size());
        std::vector<mor::TokenId> passage(static_cast<std::size_t>(passage_length));
        setting.corpus.read(held_out.first + (held_out.size() - passage_length) / 2, passage);
        measure_passage(model, passage, result);
        measure_generation(model, setting.prompt, setting.seed, result);
        if constexpr (std::is_same_v<A, mor::MoRExpert<>>) {
            options.decision = mor::Decision::look_ahead;
            result.bits_per_byte_look_ahead =
                mor::evaluate(model, context, setting.corpus, held_out, options).bits_per_token();
            measure_scores(model,
                           mor::random_windows(setting.corpus, held_out, 16, setting.sequence,
                                               setting.seed, 0),
                           result);
        }
    }

    std::string name_;
    std::string description_;
    mor::ModelConfig config_;
    mor::ArchitectureOptions<A> options_;
};

}  // namespace quickstart
