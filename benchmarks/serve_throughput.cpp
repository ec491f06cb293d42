// SPDX-License-Identifier: Apache-2.0
//
// Serving vanilla, recursive and MoR models of one shape: throughput, latency, occupancy and cache
// memory, with sequence-wise and depth-wise batching. Weights are random; a MoR token's depth is
// drawn from the balanced distribution, so that speed does not depend on training.
//
// usage: serve_throughput 135M|360M REQUESTS MEAN_TOKENS OUTPUT.json [MODEL]
// With a MODEL, such as 'MoR 3', that one alone, for a profile.
#include "machine.hpp"
#include "serving.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace {

using namespace serving;

struct Setting {
    std::string shape;
    mor::ModelConfig sizes;
    std::vector<Index> lengths = {};  // of the answers, [requests]
    Index longest = 0;
};

/// How one batch of requests went.
struct Run {
    double seconds = 0;
    double block_seconds = 0;  // in calls of the shared block
    double leave_seconds = 0;  // in last layers and head
    double model_seconds = 0;
    double flops = 0;
    Index tokens = 0;
    double occupancy = 0;  // mean rows over max_batch, of the shared block; of all calls without
    Index peak_bytes = 0;
    double bytes_per_token = 0;  // of keys and values, when its sequence ended
    Index preemptions = 0;
    std::vector<double> first;    // seconds to the first token
    std::vector<double> between;  // seconds between tokens
    std::vector<Index> trace;     // rows of each call of the shared block
};

template <class Scheduling, class A>
Run serve(const mor::Model<A, Cpu>& model, const Setting& setting, mor::EngineOptions options) {
    Run run;
    Index calls = 0;
    Index rows = 0;
    options.max_prefixes = 0;
    options.block_size = 8;
    options.on_call = [&](const mor::EngineCall& call) {
        const bool is_block = call.part == mor::EnginePart::shared_block;
        run.model_seconds += call.seconds;
        run.block_seconds += is_block ? call.seconds : 0;
        run.leave_seconds += call.part == mor::EnginePart::leave ? call.seconds : 0;
        run.peak_bytes = std::max(run.peak_bytes, call.cache_bytes);
        const bool is_stack = model.layout().num_steps == 0 && call.part == mor::EnginePart::enter;
        if (is_block || is_stack) {
            ++calls;
            rows += call.rows;
            run.trace.push_back(call.rows);
        }
    };
    mor::Engine<A, Cpu, Scheduling> engine{model, options};
    const auto start = Clock::now();
    const auto now = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    std::vector<double> last(setting.lengths.size(), 0);
    std::vector<mor::RequestHandle> handles;
    for (std::size_t i = 0; i < setting.lengths.size(); ++i) {
        const std::vector<mor::TokenId> prompt{static_cast<mor::TokenId>(i)};
        handles.push_back(engine.submit(
            prompt, {.max_new_tokens = setting.lengths[i],
                     .sampling = {.temperature = 0},
                     .on_token = [&, i](const mor::ServedToken&) {
                         const double at = now();
                         (last[i] == 0 ? run.first : run.between).push_back(at - last[i]);
                         last[i] = at;
                     }}));
    }
    engine.run();
    run.seconds = now();
    for (const mor::RequestHandle& handle : handles) {
        mor::check<mor::Error>(handle.finish() == mor::Finish::length, "a request did not finish");
    }
    run.flops = engine.flops();
    run.tokens = engine.counts().tokens;
    run.bytes_per_token = static_cast<double>(engine.counts().ended_bytes) /
                          static_cast<double>(engine.counts().ended_tokens);
    run.preemptions = engine.counts().preemptions;
    run.occupancy = static_cast<double>(rows) /
                    static_cast<double>(std::max<Index>(1, calls) * options.max_batch);
    return run;
}

/// Bytes of keys and values of a token, with `layers` layers of which each holds all tokens.
double token_bytes(const mor::ModelConfig& sizes, double layers) {
    return layers * 2 * static_cast<double>(sizes.num_kv_heads * sizes.head_dim) * sizeof(float);
}

/// One line of the table: how to measure it, and what was measured.
struct Line {
    mor::ModelConfig sizes;
    std::string setting;
    std::string model;
    std::string_view scheduling;
    Index max_batch = 0;
    Index sequences = 0;
    std::function<Run()> measure = {};
    std::vector<Run> runs = {};

    /// Of the run with the median time; and the times of all, which others can be compared with.
    [[nodiscard]] Json report() {
        Json seconds = Json::array();
        Json block_seconds = Json::array();
        for (const Run& each : runs) {
            seconds.push_back(each.seconds);
            block_seconds.push_back(each.block_seconds);
        }
        std::sort(runs.begin(), runs.end(),
                  [](const Run& a, const Run& b) { return a.seconds < b.seconds; });
        const Run& run = runs[runs.size() / 2];
        const auto tokens = static_cast<double>(run.tokens);
        // The first and the last quarter of the calls: the engine fills and empties.
        const auto quarter = static_cast<std::ptrdiff_t>(run.trace.size() / 4);
        const double steady =
            static_cast<double>(
                std::accumulate(run.trace.begin() + quarter, run.trace.end() - quarter, Index{0})) /
            static_cast<double>((std::ssize(run.trace) - 2 * quarter) * max_batch);
        std::printf(
            "%-12s %-11s %-13s %3lld rows %3lld sequences %6.1f tokens/s  %.3f GFLOP/token  "
            "occupancy %.2f (%.2f)  cache %5.1f MB  scheduler %.3f  between %.3f / %.3f s\n",
            setting.c_str(), model.c_str(), std::string{scheduling}.c_str(),
            static_cast<long long>(max_batch), static_cast<long long>(sequences),
            tokens / run.seconds, 1e-9 * run.flops / tokens, run.occupancy, steady,
            1e-6 * static_cast<double>(run.peak_bytes), 1 - run.model_seconds / run.seconds,
            quantile(run.between, 0.5), quantile(run.between, 0.99));
        return {{"setting", setting},
                {"model", model},
                {"scheduling", scheduling},
                {"max_batch", max_batch},
                {"max_sequences", sequences},
                {"tokens", run.tokens},
                {"seconds", run.seconds},
                {"seconds_of_runs", seconds},
                {"block_seconds_of_runs", block_seconds},
                {"tokens_per_second", tokens / run.seconds},
                {"flops_per_token", run.flops / tokens},
                {"block_seconds_per_token", run.block_seconds / tokens},
                {"leave_seconds_per_token", run.leave_seconds / tokens},
                {"model_seconds_per_token", run.model_seconds / tokens},
                {"scheduler_share", 1 - run.model_seconds / run.seconds},
                {"occupancy", run.occupancy},
                {"occupancy_steady", steady},
                {"peak_cache_bytes", run.peak_bytes},
                {"stored_bytes_per_token", run.bytes_per_token},
                {"layer_bytes_per_token", token_bytes(sizes, 1)},
                {"block_layers", sizes.num_layers - 2},
                {"preemptions", run.preemptions},
                {"first_token_median", quantile(run.first, 0.5)},
                {"first_token_p99", quantile(run.first, 0.99)},
                {"between_tokens_median", quantile(run.between, 0.5)},
                {"between_tokens_p99", quantile(run.between, 0.99)},
                {"rows_of_calls", run.trace}};
    }
};

template <class A>
void add_lines(Cpu& cpu, const Setting& setting, const std::string& name, Index num_recursions,
               std::vector<Line>& lines) {
    constexpr Index batch = 32;
    const Shape<A> shape{setting.sizes, num_recursions};
    const mor::ModelConfig sizes = shape.sizes;
    double layers = static_cast<double>(sizes.num_layers);
    if (A::Sharing::has_steps && !mor::keeps_every_token<typename A::Router>) {
        const auto steps = static_cast<double>(num_recursions);
        layers = 2 + static_cast<double>(sizes.num_layers - 2) * (steps + 1) / (2 * steps);
    }
    const auto model = std::make_shared<mor::Model<A, Cpu>>(cpu, sizes, shape.options, 1);
    Setting brief = setting;  // the first run packs the weights
    brief.lengths = {2};
    serve<mor::SequenceWise>(*model, brief, {});
    constexpr Index plenty = Index{1} << 28;
    const auto add = [&]<class Scheduling>(Scheduling, const char* group, Index rows,
                                           Index sequences, Index bytes) {
        lines.push_back(
            {sizes, group, name, Scheduling::name, rows, sequences, [=, &setting] {
                 return serve<Scheduling>(
                     *model, setting,
                     {.max_batch = rows, .max_sequences = sequences, .cache_bytes = bytes});
             }});
    };
    add(mor::SequenceWise{}, "batch 32", batch, batch, plenty);
    if (!mor::keeps_every_token<typename A::Router>) {
        add(mor::DepthWise{}, "batch 32", batch, 2 * batch - 1, plenty);
        // As many sequences as fit where 32 of vanilla do.
        const double vanilla = token_bytes(sizes, static_cast<double>(setting.sizes.num_layers));
        const auto longest = static_cast<double>(setting.longest + 8);
        const auto fitting = static_cast<Index>(batch * vanilla / token_bytes(sizes, layers));
        const auto bytes = static_cast<Index>(vanilla * batch * longest);
        add(mor::SequenceWise{}, "equal memory", fitting, fitting, bytes);
        add(mor::DepthWise{}, "equal memory", (fitting + 1) / 2, fitting, bytes);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5 && argc != 6) {
        std::fprintf(
            stderr, "usage: serve_throughput 135M|360M REQUESTS MEAN_TOKENS OUTPUT.json [MODEL]\n");
        return 2;
    }
    Setting setting{.shape = argv[1], .sizes = sizes_of(argv[1])};
    const Index requests = std::atol(argv[2]);
    const double mean = std::atof(argv[3]);
    mor::Random random{1};
    for (Index i = 0; i < requests; ++i) {
        const double length = mean * (1 + 0.25 * random.normal());
        setting.lengths.push_back(std::max<Index>(1, std::lround(length)));
        setting.longest = std::max(setting.longest, setting.lengths.back());
    }
    setting.sizes.max_positions = setting.longest + 2;
    Cpu cpu;
    std::vector<Line> lines;
    const auto add = [&]<class A>(A, const std::string& name, Index num_recursions) {
        if (argc == 5 || name == argv[5]) {
            add_lines<A>(cpu, setting, name, num_recursions, lines);
        }
    };
    add(mor::Vanilla{}, "vanilla", 1);
    add(mor::Recursive<>{}, "recursive 3", 3);
    for (const Index num_recursions : {2, 3, 4}) {
        add(BalancedMoR{}, "MoR " + std::to_string(num_recursions), num_recursions);
    }
    mor::check<mor::ConfigError>(!lines.empty(), "no model ", argv[argc - 1]);
    constexpr int repetitions = 3;
    for (int i = 0; i < repetitions; ++i) {
        for (Line& line : lines) {
            line.runs.push_back(line.measure());
        }
    }
    Json rows = Json::array();
    for (Line& line : lines) {
        rows.push_back(line.report());
    }
    std::string command = "serve_throughput";
    for (int i = 1; i < 4; ++i) {
        command += std::string{" "} + argv[i];
    }
    const Json report{{"command", command},
                      {"machine", benchmarks::machine()},
                      {"shape", setting.shape},
                      {"requests", requests},
                      {"mean_tokens", mean},
                      {"repetitions", repetitions},
                      {"rows", rows}};
    std::ofstream{argv[4]} << report.dump(1) << '\n';
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "serve_throughput: %s\n", error.what());
    return 1;
}
