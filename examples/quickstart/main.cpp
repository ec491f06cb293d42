// SPDX-License-Identifier: Apache-2.0
//
// Trains vanilla, recursive and Mixture-of-Recursions byte models on the same text with the same
// number of floating-point operations, and compares what comes out.
#include "contender.hpp"
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <cxxopts.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

namespace {

using namespace quickstart;  // NOLINT(google-build-using-namespace)

struct Baseline {
    std::string name;
    double bits_per_byte = 0;
};

/// "gzip -9=12345": the bytes that a compressor needs for the held-out part.
Baseline parse_baseline(const std::string& text, mor::Index held_out) {
    const auto equals = text.rfind('=');
    double bytes = 0;
    if (equals != std::string::npos) {
        std::from_chars(text.data() + equals + 1, text.data() + text.size(), bytes);
    }
    mor::check<mor::ConfigError>(bytes > 0, "--baseline ", text, ": expected NAME=BYTES");
    return {text.substr(0, equals), 8 * bytes / static_cast<double>(held_out)};
}

/// Keeps a tenth of the text for evaluation, at most 256 KiB.
mor::DataSplit split_text(const mor::io::ByteCorpus& corpus, mor::Index window) {
    constexpr mor::Index most = 262'144;
    return mor::split(corpus, std::min(most, corpus.size() / 10), window);
}

/// Writes the held-out bytes, so that compressors read exactly what the models are scored on.
void write_held_out(const mor::io::ByteCorpus& corpus, const mor::TokenRange& range,
                    const std::string& path) {
    std::vector<mor::TokenId> tokens(static_cast<std::size_t>(range.size()));
    corpus.read(range.first, tokens);
    mor::io::write_file_atomically(path, std::string(tokens.begin(), tokens.end()));
}

auto make_contenders(const mor::ModelConfig& sizes) {
    mor::ModelConfig small = sizes;
    small.num_layers = 4;
    const double auxiliary = 0.01;
    return std::tuple{
        Contender<mor::Vanilla>{"Vanilla", "every layer has weights of its own", sizes, {}},
        Contender<mor::Vanilla>{
            "Vanilla, few weights", "as many weights as MoR, half the layers", small, {}},
        Contender<mor::Recursive<>>{
            "Recursive", "Middle-Cycle, every token takes all 3 steps", sizes, {}},
        Contender<mor::MoRExpert<>>{"MoR expert-choice",
                                    "Middle-Cycle, each step picks its best tokens",
                                    sizes,
                                    {.router = {.causality = {.coefficient = auxiliary}}}},
        Contender<mor::MoRToken<>>{
            "MoR token-choice", "Middle-Cycle, each token picks its depth", sizes, {}}};
}

void print_table(const std::vector<Result>& results, const std::vector<Baseline>& baselines) {
    std::printf("\n%-22s %10s %9s %9s %10s %10s %9s %17s\n", "model", "weights", "FLOPs",
                "bits/byte", "train t/s", "gen. t/s", "KV bytes", "KV share (formula)");
    for (const Result& r : results) {
        std::string share = "1";
        if (r.formula_share) {
            std::array<char, 40> text{};
            std::snprintf(text.data(), text.size(), "%.3f (%.3f)", r.recursion_cache_share,
                          *r.formula_share);
            share = text.data();
        }
        std::printf("%-22s %10lld %9.2e %9.3f %10.0f %10.0f %9.0f %17s\n", r.name.c_str(),
                    static_cast<long long>(r.unique_parameters), r.training_flops, r.bits_per_byte,
                    r.training_tokens / r.training_seconds, r.generation_tokens_per_second,
                    r.cache_bytes_per_token, share.c_str());
        if (r.bits_per_byte_look_ahead) {
            std::printf("%-22s %30.3f  with training's top-k, which looks ahead\n", "",
                        *r.bits_per_byte_look_ahead);
        }
    }
    for (const Baseline& baseline : baselines) {
        std::printf("%-22s %30.3f\n", baseline.name.c_str(), baseline.bits_per_byte);
    }
    std::printf(
        "\nbits/byte: on held-out text, causal routing. KV bytes: a token, all layers.\n"
        "KV share: of the recursion's layers, measured (formula (Nr+1)/(2Nr)).\n");
}

std::string today() {
    const std::time_t now = std::time(nullptr);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d", std::gmtime(&now));
    return text.data();
}

std::string processor() {
    std::ifstream info{"/proc/cpuinfo"};
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("model name")) {
            return line.substr(line.find(':') + 2);
        }
    }
    return "unknown";
}

/// What scripts/make_report.py draws.
nlohmann::ordered_json make_report(const Setting& setting, const cxxopts::ParseResult& arguments,
                                   const std::vector<Baseline>& baselines,
                                   const std::vector<Result>& results) {
    const std::string text = std::filesystem::path{setting.corpus.name()}.filename().string();
    nlohmann::ordered_json report{{"title", "Mixture-of-Recursions on " + text},
                                  {"corpus",
                                   {{"name", text},
                                    {"training_bytes", setting.data.training.size()},
                                    {"held_out_bytes", setting.data.held_out.size()}}},
                                  {"machine",
                                   {{"processor", processor()},
                                    {"threads", setting.backend.threads()},
                                    {"compiler", MOR_QUICKSTART_COMPILER},
                                    {"flags", MOR_QUICKSTART_FLAGS},
                                    {"command", arguments["command"].as<std::string>()},
                                    {"seed", setting.seed},
                                    {"date", today()}}},
                                  {"minutes", arguments["minutes"].as<double>()},
                                  {"num_recursions", mor::RecursionOptions{}.num_recursions},
                                  {"baselines", nlohmann::json::array()},
                                  {"models", nlohmann::json::array()}};
    for (const Baseline& baseline : baselines) {
        report["baselines"].push_back(nlohmann::ordered_json{
            {"name", baseline.name}, {"bits_per_byte", baseline.bits_per_byte}});
    }
    for (const Result& result : results) {
        report["models"].push_back(nlohmann::ordered_json(to_json(result)));
    }
    return report;
}

int run(const cxxopts::ParseResult& arguments) {
    const auto minutes = arguments["minutes"].as<double>();
    mor::check<mor::ConfigError>(minutes > 0 && minutes < 1e5, "--minutes is ", minutes,
                                 ", expected a positive number");
    Backend backend{{.threads = arguments["threads"].as<mor::Index>()}};
    const mor::io::ByteCorpus corpus{arguments["text"].as<std::string>()};
    Setting setting{.backend = backend,
                    .corpus = corpus,
                    .data = {},
                    .output = arguments["output"].as<std::string>(),
                    .prompt = arguments["prompt"].as<std::string>(),
                    .seed = arguments["seed"].as<std::uint64_t>()};
    setting.data = split_text(corpus, setting.sequence);
    if (arguments.count("write-held-out") != 0) {
        write_held_out(corpus, setting.data.held_out,
                       arguments["write-held-out"].as<std::string>());
        return 0;
    }
    const mor::Index held_out = setting.data.held_out.size();
    std::vector<Baseline> baselines;
    if (arguments.count("baseline") != 0) {
        for (const std::string& text : arguments["baseline"].as<std::vector<std::string>>()) {
            baselines.push_back(parse_baseline(text, held_out));
        }
    }
    std::filesystem::create_directories(setting.output);
    std::printf("Text: %s, %.1f MB, the last %lld bytes held out. %lld threads.\n",
                corpus.name().c_str(), static_cast<double>(corpus.size()) / 1e6,
                static_cast<long long>(held_out), static_cast<long long>(backend.threads()));

    const auto contenders = make_contenders({.max_positions = 1'024, .initializer_range = 0.06});
    // Equal operations for all, so that together they take the asked time: a sixth of it goes to
    // measuring them afterwards.
    const double seconds = 60 * minutes * 5 / 6;
    std::vector<Speed> speeds;
    double seconds_per_flop = 0;
    std::apply([&](const auto&... c) { (speeds.push_back(c.measure_speed(setting)), ...); },
               contenders);
    for (const Speed& speed : speeds) {
        seconds_per_flop += speed.seconds_per_step / speed.flops_per_step;
    }
    const double budget = seconds / seconds_per_flop;
    std::printf("Training %zu models with %.2e operations each.\n", speeds.size(), budget);

    std::vector<Result> results;
    const auto train = [&](const auto& contender) {
        if (!interrupted) {
            results.push_back(contender.train(setting, budget, speeds[results.size()]));
        }
    };
    std::apply([&](const auto&... c) { (train(c), ...); }, contenders);
    std::erase_if(results, [](const Result& result) { return result.training_seconds == 0; });
    if (interrupted && results.empty()) {
        std::printf("Interrupted: no model was trained to its end.\n");
        return 130;
    }

    print_table(results, baselines);
    for (const Result& result : results) {
        if (result.formula_share) {
            std::printf("\n%s, coloured by recursion depth:\n", result.name.c_str());
            examples::print_depths(result.generation);
        }
    }

    const auto report = make_report(setting, arguments, baselines, results);
    mor::io::write_file_atomically(setting.output / "report.json", report.dump(1) + "\n");
    return interrupted ? 130 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    cxxopts::Options options{"quickstart", "Trains and compares small recursive language models."};
    const auto text = [](const char* standard) {
        return cxxopts::value<std::string>()->default_value(standard);
    };
    auto add = options.add_options();
    add("text", "a text file, or a directory of them", cxxopts::value<std::string>());
    add("minutes", "how long it may take", cxxopts::value<double>()->default_value("10"));
    add("output", "directory for models and report.json", text("quickstart"));
    add("prompt", "what to continue", text("Recursion \\Re*cur\"sion\\, n. "));
    add("write-held-out", "only write the held-out bytes here", cxxopts::value<std::string>());
    add("baseline", "NAME=BYTES of the compressed held-out part",
        cxxopts::value<std::vector<std::string>>());
    add("command", "how this was started, for the report", text("quickstart"));
    add("threads", "0: one per core", cxxopts::value<mor::Index>()->default_value("0"));
    add("seed", "of weights, data order and sampling",
        cxxopts::value<std::uint64_t>()->default_value("1"));
    add("help", "this text");
    try {
        const auto arguments = options.parse(argc, argv);
        if (arguments.count("help") != 0 || arguments.count("text") == 0) {
            std::printf("%s\n", options.help().c_str());
            return arguments.count("help") != 0 ? 0 : 2;
        }
        std::signal(SIGINT, [](int) { interrupted = true; });
        return run(arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "quickstart: %s\n", error.what());
        return 1;
    }
}
