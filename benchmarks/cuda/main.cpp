// SPDX-License-Identifier: Apache-2.0
//
// Measures models on the CUDA backend: training at the shapes of SmolLM with its share of the GPU's
// peak and its memory, prefill and decoding with their share of the memory's bandwidth, routing.
//
// usage: cuda --out REPORT.json [--shapes 360M,135M] [--models vanilla,mor:2,recursive:2,mor:3,...]
//             [--precisions bfloat16,float] [--batch 8] [--sequence 2048] [--prompt 512]
//             [--decoded 32] [--decode-batches 1,8,32,128] [--repeats 5] [--seconds 3600]
//             [--peak-float FLOPS] [--peak-bfloat16 FLOPS] [--driver TEXT] [--commit TEXT]
//
// A case that would begin after so many seconds is not run, and the report says so. The report is
// written anew after each case. Ends with 77 where there is no GPU.
#include "case.hpp"
#include "peaks.hpp"
#include "quantile.hpp"
#include "shapes.hpp"
#include <mor/core/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using namespace benchmarks;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> words;
    for (std::size_t begin = 0; begin <= list.size();) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        words.push_back(list.substr(begin, end - begin));
        begin = end + 1;
    }
    return words;
}

template <class Number>
Number number_in(const std::string& text) {
    Number value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    mor::check<mor::ConfigError>(error == std::errc{} && end == text.data() + text.size(),
                                 "cuda: '", text, "' is no number");
    return value;
}

/// The words of the command line: each option has a value.
class Arguments {
public:
    Arguments(int count, char** words) {
        mor::check<mor::ConfigError>(count % 2 == 1, "cuda: every option needs a value");
        for (int i = 1; i < count; i += 2) {
            mor::check<mor::ConfigError>(values_.contains(words[i]), "cuda: no option ", words[i]);
            values_[words[i]] = words[i + 1];
        }
        mor::check<mor::ConfigError>(!text("--out").empty(), "cuda: --out REPORT.json is missing");
    }
    [[nodiscard]] const std::string& text(const std::string& name) const {
        return values_.at(name);
    }
    [[nodiscard]] Index index(const std::string& name) const {
        return number_in<Index>(text(name));
    }
    [[nodiscard]] double number(const std::string& name) const {
        return number_in<double>(text(name));
    }
    [[nodiscard]] std::vector<std::string> list(const std::string& name) const {
        return split(text(name));
    }

private:
    std::map<std::string, std::string> values_{
        {"--out", ""},
        {"--shapes", "360M,135M"},
        {"--models", "vanilla,mor:2,recursive:2,mor:3,recursive:3"},
        {"--precisions", "bfloat16,float"},
        {"--batch", "8"},
        {"--sequence", "2048"},
        {"--prompt", "512"},
        {"--decoded", "32"},
        {"--decode-batches", "1,8,32,128"},
        {"--repeats", "5"},
        {"--seconds", "3600"},
        {"--peak-float", "0"},
        {"--peak-bfloat16", "0"},
        {"--driver", ""},
        {"--commit", "unknown"},
    };
};

Case case_of(const std::string& shape, const std::string& model, const std::string& precision) {
    static_cast<void>(sizes_of(shape));  // throws if there is none
    Case which{.shape = shape};
    const std::size_t colon = std::min(model.find(':'), model.size());
    const std::string kind = model.substr(0, colon);
    if (kind == "mor" || kind == "recursive") {
        which.kind = kind == "mor" ? Kind::mor : Kind::recursive;
        mor::check<mor::ConfigError>(colon < model.size(), "cuda: ", model,
                                     " needs a number of recursions, like ", kind, ":2");
        which.num_recursions = number_in<Index>(model.substr(colon + 1));
    } else {
        mor::check<mor::ConfigError>(model == "vanilla", "cuda: no model ", model,
                                     ", only vanilla, recursive:N and mor:N");
    }
    mor::check<mor::ConfigError>(precision == "float" || precision == "bfloat16",
                                 "cuda: no precision ", precision, ", only float and bfloat16");
    which.precision = precision == "float" ? Precision::float32 : Precision::bfloat16_products;
    return which;
}

Settings settings_of(const Arguments& arguments) {
    Settings settings{.batch = arguments.index("--batch"),
                      .sequence = arguments.index("--sequence"),
                      .prompt = arguments.index("--prompt"),
                      .decoded = arguments.index("--decoded"),
                      .decode_batches = {},
                      .repeats = arguments.index("--repeats")};
    for (const std::string& batch : arguments.list("--decode-batches")) {
        settings.decode_batches.push_back(number_in<Index>(batch));
    }
    return settings;
}

/// The peaks that were given, else those of the table, else none.
std::optional<Peaks> peaks_for(const Arguments& arguments, const std::string& device) {
    const Peaks given{arguments.number("--peak-float"), arguments.number("--peak-bfloat16")};
    if (given.float32 > 0 && given.bfloat16 > 0) {
        return given;
    }
    return peaks_of(device);
}

std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[sizeof "2000-01-01"];
    std::strftime(text, sizeof text, "%F", std::gmtime(&now));
    return text;
}

/// The program and its options, without folders.
std::string command(int count, char** words) {
    std::string text;
    for (int i = 0; i < count; ++i) {
        const std::string word = words[i];
        text += (i > 0 ? " " : "") + (word.find('/') == std::string::npos
                                          ? word
                                          : std::filesystem::path{word}.filename().string());
    }
    return text;
}

/// Rates of a pass, and its shares of what the machine can do.
class Reporter {
public:
    Reporter(const Machine& machine, std::optional<Peaks> peaks)
        : bandwidth_{machine.copied_bytes_per_second}, peaks_{peaks} {}

    [[nodiscard]] Json training(const TrainingResult& training, Precision precision) const {
        const double seconds = quantile(training.seconds, 0.5);
        Json json{{"tokens", training.tokens},
                  {"seconds", seconds},
                  {"all_seconds", training.seconds},
                  {"tokens_per_second", static_cast<double>(training.tokens) / seconds},
                  {"flops", training.flops},
                  {"mfu", nullptr},
                  {"peak_bytes", training.peak_bytes},
                  {"activation_bytes", training.activation_bytes},
                  {"loss", training.loss},
                  {"active_share", training.active_share}};
        if (peaks_) {
            json["mfu"] = training.flops / seconds / peak(precision);
        }
        return json;
    }

    [[nodiscard]] Json pass(const PassResult& pass) const {
        const double seconds = quantile(pass.seconds, 0.5);
        return {{"what", pass.what},
                {"batch", pass.batch},
                {"tokens", pass.tokens},
                {"seconds", seconds},
                {"all_seconds", pass.seconds},
                {"tokens_per_second", static_cast<double>(pass.tokens) / seconds},
                {"flops", pass.flops},
                {"bytes", pass.bytes},
                {"of_bandwidth", pass.bytes / seconds / bandwidth_}};
    }

    /// `update`: seconds of a whole update.
    [[nodiscard]] Json routing(const RoutingResult& routing, double update) const {
        const double all = routing.forward_us() + routing.backward_us;
        return {{"steps", routing.steps},
                {"gather_us", routing.gather_us},
                {"select_us", routing.select_us},
                {"compact_us", routing.compact_us},
                {"merge_us", routing.merge_us},
                {"block_us", routing.block_us},
                {"backward_us", routing.backward_us},
                {"step_us", routing.forward_us() / static_cast<double>(routing.steps)},
                {"of_block", routing.forward_us() / routing.block_us},
                {"of_step", routing.forward_us() / (routing.forward_us() + routing.block_us)},
                {"of_update", all / (1e6 * update)}};
    }

private:
    [[nodiscard]] double peak(Precision precision) const {
        return precision == Precision::float32 ? peaks_->float32 : peaks_->bfloat16;
    }

    double bandwidth_;
    std::optional<Peaks> peaks_;
};

/// What is known of a case before it runs.
Json describe(const Case& which) {
    constexpr const char* kinds[] = {"vanilla", "recursive", "mor"};
    return {{"shape", which.shape},
            {"model", kinds[static_cast<int>(which.kind)]},
            {"num_recursions", which.num_recursions},
            {"precision", which.precision == Precision::float32 ? "float" : "bfloat16"}};
}

Json measure_case(const Case& which, const Settings& settings, const Reporter& reporter) {
    Json json = describe(which);
    try {
        const Result result = which.precision == Precision::float32
                                  ? measure_float(which, settings)
                                  : measure_bfloat16(which, settings);
        json["num_parameters"] = result.num_parameters;
        for (const TrainingResult& training : result.training) {
            json["training"] = reporter.training(training, which.precision);
        }
        json["passes"] = Json::array();
        for (const PassResult& pass : result.passes) {
            json["passes"].push_back(reporter.pass(pass));
        }
        for (const RoutingResult& routing : result.routing) {
            json["routing"] =
                reporter.routing(routing, quantile(result.training.front().seconds, 0.5));
        }
    } catch (const std::exception& error) {  // of a GPU whose memory is too small, for example
        json["problem"] = error.what();
    }
    return json;
}

/// One line.
void print(const Json& result) {
    const std::string model = result["shape"].get<std::string>() + ", " +
                              result["model"].get<std::string>() + " " +
                              std::to_string(result["num_recursions"].get<Index>()) + ", " +
                              result["precision"].get<std::string>();
    if (result.contains("problem")) {
        std::printf("%s: %s\n", model.c_str(), result["problem"].get<std::string>().c_str());
    } else {
        std::printf("%s: %.0f tokens/s in training\n", model.c_str(),
                    result["training"]["tokens_per_second"].get<double>());
    }
    std::fflush(stdout);
}

void write(const Json& report, const std::string& path) {
    std::ofstream file{path};
    file << report.dump(1) << '\n';
    mor::check<mor::IoError>(file.flush().good(), path, ": cannot be written");
}

/// The report without results.
Json about(const Arguments& arguments, const Settings& settings, const Machine& machine,
           const std::optional<Peaks>& peaks) {
    Json json{{"commit", arguments.text("--commit")},
              {"date", today()},
              {"device", machine.device},
              {"driver",
               arguments.text("--driver").empty() ? machine.driver : arguments.text("--driver")},
              {"toolkit", machine.toolkit},
              {"compiler", __VERSION__},
              {"flags", MOR_BENCHMARK_FLAGS},
              {"device_memory_bytes", machine.memory_bytes},
              {"copied_bytes_per_second", machine.copied_bytes_per_second},
              {"peak_flops", nullptr},
              {"seeds", {{"weights", settings.seed}, {"tokens", settings.seed}, {"order", 0}}},
              {"batch", settings.batch},
              {"sequence", settings.sequence},
              {"prompt", settings.prompt}};
    if (peaks) {
        json["peak_flops"] = {{"float", peaks->float32}, {"bfloat16", peaks->bfloat16}};
    }
    return json;
}

void run(int count, char** words) {
    const auto start = Clock::now();
    const Arguments arguments{count, words};
    const Settings settings = settings_of(arguments);
    std::vector<Case> cases;
    for (const std::string& precision : arguments.list("--precisions")) {
        for (const std::string& shape : arguments.list("--shapes")) {
            for (const std::string& model : arguments.list("--models")) {
                cases.push_back(case_of(shape, model, precision));
            }
        }
    }
    const double seconds = arguments.number("--seconds");
    const Machine machine = machine_under_test();
    const std::optional<Peaks> peaks = peaks_for(arguments, machine.device);
    if (!peaks) {
        std::printf("%s: its peak is not known, so no share of it is reported\n",
                    machine.device.c_str());
    }
    Json report = about(arguments, settings, machine, peaks);
    report["command"] = command(count, words);
    report["results"] = Json::array();
    Index count_measured = 0;
    for (const Case& which : cases) {
        const bool is_late = Clock::now() - start > std::chrono::duration<double>(seconds);
        Json result = is_late ? describe(which) : measure_case(which, settings, {machine, peaks});
        if (is_late) {
            result["problem"] = "not run: the time was up";
        }
        print(result);
        count_measured += result.contains("problem") ? 0 : 1;
        report["results"].push_back(std::move(result));
        write(report, arguments.text("--out"));
    }
    mor::check<mor::ConfigError>(count_measured > 0, "cuda: none of ", cases.size(),
                                 " cases could be measured");
}

}  // namespace

int main(int count, char** words) {
    try {
        run(count, words);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        const std::string_view what = error.what();
        const bool has_no_gpu = what.find("no NVIDIA driver") != std::string_view::npos ||
                                what.find("there is no GPU") != std::string_view::npos ||
                                what.find("no CUDA-capable device") != std::string_view::npos;
        constexpr int skipped = 77;
        return has_no_gpu ? skipped : 1;
    }
}
