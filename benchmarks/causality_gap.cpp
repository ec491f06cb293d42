// SPDX-License-Identifier: Apache-2.0
//
// What a causal decision costs. Trains expert-choice models on a text and scores its held-out part
// with training's top-k, which looks ahead; with the causal threshold, as it is and calibrated;
// and with an auxiliary router. Then caps depth and moves the threshold of one trained model.
//
// usage: causality_gap TEXT STEPS OUTPUT.json
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Cpu = mor::Cpu<float>;
using mor::Index;
using Json = nlohmann::ordered_json;

struct WithAuxiliaryRouter : mor::DefaultArchitecture {
    using Router = mor::ExpertChoiceRouter<mor::LinearNetwork, mor::AuxiliaryRouter<>>;
};

/// The held-out text, cut in two: what calibrates a threshold must not score it.
struct Text {
    const mor::io::ByteCorpus& corpus;
    mor::TokenRange training;
    mor::TokenRange calibration;
    mor::TokenRange test;
};

constexpr std::uint64_t seed = 1;
constexpr Index sequence = 256;

Text cut(const mor::io::ByteCorpus& corpus) {
    const mor::DataSplit data =
        mor::split(corpus, std::min<Index>(262'144, corpus.size() / 10), sequence);
    const Index middle = (data.held_out.first + data.held_out.last) / 2;
    return {corpus, data.training, {data.held_out.first, middle}, {middle, data.held_out.last}};
}

template <class A>
class Experiment {
public:
    Experiment(Cpu& cpu, const Text& text, const mor::ArchitectureOptions<A>& options, Index steps)
        : text_{text},
          model_{cpu, {.max_positions = 1'024, .initializer_range = 0.06}, options, seed},
          context_{cpu} {
        mor::Trainer trainer{model_,
                             text.corpus,
                             text.training,
                             {.steps = steps,
                              .batch = 4,
                              .sequence = sequence,
                              .seed = seed,
                              .schedule = {.warmup_steps = 50, .cooldown_steps = steps / 4}}};
        trainer.run([steps](const mor::StepReport& report) {
            if (report.step % (steps / 10) == 0) {
                std::fprintf(stderr, "  step %lld of %lld: loss %.3f\n",
                             static_cast<long long>(report.step), static_cast<long long>(steps),
                             report.loss);
            }
        });
    }

    /// Prints and returns one row of the table.
    Json measure(const std::string& name, mor::Decision decision, const mor::DepthControl& depth) {
        const mor::Evaluation found = score(text_.test, decision, depth);
        std::printf("| %-44s | %6.3f | %5.2f | %6.2f |\n", name.c_str(), found.bits_per_token(),
                    found.mean_depth, found.flops_per_token / 1e6);
        std::fflush(stdout);
        return {{"name", name},
                {"bits_per_byte", found.bits_per_token()},
                {"mean_depth", found.mean_depth},
                {"flops_per_token", found.flops_per_token}};
    }

    /// The threshold offset with the least loss on the calibration part.
    double calibrate() {
        constexpr Index sample = 96;  // windows
        double best = 0;
        double least = score(text_.calibration, mor::Decision::causal, {}, sample).nats_per_token;
        for (double offset = -3; offset <= 3; offset += 0.25) {
            const double loss = score(text_.calibration, mor::Decision::causal,
                                      {.threshold_offset = offset}, sample)
                                    .nats_per_token;
            if (loss < least) {
                least = loss;
                best = offset;
            }
        }
        return best;
    }

private:
    mor::Evaluation score(const mor::TokenRange& range, mor::Decision decision,
                          const mor::DepthControl& depth, Index windows = 1'000'000) {
        return mor::evaluate(model_, context_, text_.corpus, range,
                             {.batch = 4,
                              .sequence = sequence,
                              .max_windows = windows,
                              .decision = decision,
                              .depth = depth});
    }

    const Text& text_;
    mor::Model<A, Cpu> model_;
    mor::Context<Cpu> context_;
};

std::string signed_number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%+.2f", value);
    return text.data();
}

template <class A>
void decisions(Experiment<A>& experiment, const std::string& name, Json& rows) {
    rows.push_back(
        experiment.measure(name + ", top-k (looks ahead)", mor::Decision::look_ahead, {}));
    rows.push_back(experiment.measure(name + ", causal", mor::Decision::causal, {}));
    const double offset = experiment.calibrate();
    rows.push_back(experiment.measure(name + ", calibrated " + signed_number(offset),
                                      mor::Decision::causal, {.threshold_offset = offset}));
}

void write_header(const char* title) {
    std::printf("\n%s\n\n| %-44s | bits/b | depth | MFLOP  |\n|%s|-------:|------:|-------:|\n",
                title, "", std::string(46, '-').c_str());
}

int run(const char* path, Index steps, const char* output) {
    Cpu cpu;
    const mor::io::ByteCorpus corpus{path};
    const Text text = cut(corpus);
    Json report{{"command", std::string{"causality_gap TEXT "} + std::to_string(steps)},
                {"seed", seed},
                {"decisions", Json::array()},
                {"depth", Json::array()}};
    write_header("Decisions");
    for (const double coefficient : {0.001, 0.01, 0.1}) {
        std::fprintf(stderr, "auxiliary loss, coefficient %g\n", coefficient);
        Experiment<mor::MoRExpert<>> experiment{
            cpu, text, {.router = {.causality = {.coefficient = coefficient}}}, steps};
        std::array<char, 48> name{};
        std::snprintf(name.data(), name.size(), "loss %g", coefficient);
        decisions(experiment, name.data(), report["decisions"]);
        if (coefficient != 0.01) {
            continue;
        }
        Json& curve = report["depth"];
        for (const Index depth : {1, 2, 3}) {
            curve.push_back(experiment.measure("at most " + std::to_string(depth) + " steps",
                                               mor::Decision::causal, {.max_depth = depth}));
            curve.push_back(experiment.measure("forced to " + std::to_string(depth) + " steps",
                                               mor::Decision::causal, {.forced_depth = depth}));
        }
        for (const double offset : {-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0}) {
            curve.push_back(experiment.measure("threshold " + signed_number(offset),
                                               mor::Decision::causal,
                                               {.threshold_offset = offset}));
        }
    }
    std::fprintf(stderr, "auxiliary router\n");
    Experiment<WithAuxiliaryRouter> experiment{cpu, text, {}, steps};
    decisions(experiment, "auxiliary router", report["decisions"]);
    mor::io::write_file_atomically(output, report.dump(1) + "\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const long long steps = argc == 4 ? std::atoll(argv[2]) : 0;
    if (steps < 10) {
        std::fprintf(stderr, "usage: causality_gap TEXT STEPS OUTPUT.json\n");
        return 2;
    }
    try {
        return run(argv[1], steps, argv[3]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "causality_gap: %s\n", error.what());
        return 1;
    }
}
