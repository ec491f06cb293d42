// SPDX-License-Identifier: Apache-2.0
//
// One batch of requests, served: how the benchmarks of throughput measure and report it.
#pragma once

#include "serving.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace serving {

/// Requests that are all there from the start.
struct Setting {
    std::vector<std::vector<mor::TokenId>> prompts = {};  // [requests]
    std::vector<Index> lengths = {};                      // of the answers, [requests]
    double temperature = 0;
    Index block_size = 8;
    Index max_prefixes = 8;

    /// `count` answers of normally distributed lengths, a quarter of the mean being the deviation.
    void draw_lengths(Index count, double mean, mor::Random& random) {
        for (Index i = 0; i < count; ++i) {
            const double length = mean * (1 + 0.25 * random.normal());
            lengths.push_back(std::max<Index>(1, std::lround(length)));
        }
    }
    [[nodiscard]] Index longest() const {
        return *std::max_element(lengths.begin(), lengths.end());
    }
};

/// How they went.
struct Run {
    double seconds = 0;
    double block_seconds = 0;  // in calls of the shared block
    double leave_seconds = 0;  // in last layers and head
    double model_seconds = 0;
    double draw_seconds = 0;
    double flops = 0;
    mor::EngineCounts counts;
    double occupancy = 0;  // mean rows over max_batch, of the shared block; of all calls without
    double occupancy_steady = 0;  // without the first and the last quarter of these calls
    double sequences = 0;         // mean under way, when rows enter, as the next
    double cache_bytes = 0;       // mean of blocks in use
    Index peak_bytes = 0;
    std::vector<double> first;        // seconds to the first token
    std::vector<double> between;      // seconds between tokens
    std::vector<Index> rows_by_time;  // of the call under way, at equal distances in time
};

struct Call {
    double end = 0;
    Index rows = 0;
};

[[nodiscard]] inline double mean_rows(std::vector<Call>::const_iterator first,
                                      std::vector<Call>::const_iterator last) {
    return std::accumulate(
               first, last, 0.0,
               [](double sum, const Call& call) { return sum + static_cast<double>(call.rows); }) /
           static_cast<double>(std::max<std::ptrdiff_t>(1, last - first));
}

/// A clock that stands still while others have their turn.
class TurnClock {
public:
    void go_on() { since_ = Clock::now(); }
    void pause() { passed_ = seconds(); }
    /// In all turns; to be asked between go_on() and pause().
    [[nodiscard]] double seconds() const {
        return passed_ + std::chrono::duration<double>(Clock::now() - since_).count();
    }

private:
    double passed_ = 0;
    Clock::time_point since_;
};

/// The requests of a setting, being served.
template <class Scheduling, class A>
class Service {
public:
    Service(const mor::Model<A, Cpu>& model, const Setting& setting, mor::EngineOptions options)
        : max_batch_{options.max_batch},
          has_steps_{model.layout().num_steps > 0},
          engine_{model, counted(setting, std::move(options))},
          last_(setting.lengths.size()) {
        for (std::size_t i = 0; i < setting.lengths.size(); ++i) {
            handles_.push_back(engine_.submit(
                setting.prompts[i],
                {.max_new_tokens = setting.lengths[i],
                 .sampling = {.temperature = setting.temperature, .seed = i},
                 .on_token = [this, i](const mor::ServedToken&) { count_token(i); }}));
        }
    }
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// For so many seconds, or until all requests are answered: then, how it went.
    [[nodiscard]] std::optional<Run> serve_for(double seconds) {
        clock_.go_on();
        const double end = clock_.seconds() + seconds;
        bool is_left = true;
        while (is_left && clock_.seconds() < end) {
            is_left = engine_.step();
        }
        run_.seconds = clock_.seconds();
        clock_.pause();
        return is_left ? std::nullopt : std::optional{ended()};
    }

private:
    mor::EngineOptions counted(const Setting& setting, mor::EngineOptions options) {
        options.block_size = setting.block_size;
        options.max_prefixes = setting.max_prefixes;
        options.on_call = [this](const mor::EngineCall& call) { count_call(call); };
        return options;
    }

    void count_call(const mor::EngineCall& call) {
        const bool is_block = call.part == mor::EnginePart::shared_block;
        const bool is_draw = call.part == mor::EnginePart::draw;
        (is_draw ? run_.draw_seconds : run_.model_seconds) += call.seconds;
        run_.block_seconds += is_block ? call.seconds : 0;
        run_.leave_seconds += call.part == mor::EnginePart::leave ? call.seconds : 0;
        run_.peak_bytes = std::max(run_.peak_bytes, call.cache_bytes);
        if (call.part == mor::EnginePart::enter) {
            ++entered_;
            run_.sequences += static_cast<double>(engine_.counts().running);
            run_.cache_bytes += static_cast<double>(call.cache_bytes);
        }
        if (counts_as_batch(call, has_steps_)) {
            calls_.push_back({clock_.seconds(), call.rows});
        }
    }

    void count_token(std::size_t request) {
        const double now = clock_.seconds();
        const bool is_first = last_[request] == 0;
        (is_first ? run_.first : run_.between).push_back(now - last_[request]);
        last_[request] = now;
    }

    [[nodiscard]] Run ended() {
        for (const mor::RequestHandle& handle : handles_) {
            mor::check<mor::Error>(handle.finish() == mor::Finish::length,
                                   "a request did not finish");
        }
        run_.flops = engine_.flops();
        run_.counts = engine_.counts();
        run_.sequences /= static_cast<double>(entered_);
        run_.cache_bytes /= static_cast<double>(entered_);
        const auto quarter = std::ssize(calls_) / 4;
        const auto most = static_cast<double>(max_batch_);
        run_.occupancy = mean_rows(calls_.begin(), calls_.end()) / most;
        run_.occupancy_steady = mean_rows(calls_.begin() + quarter, calls_.end() - quarter) / most;
        constexpr int samples = 400;
        auto at = calls_.cbegin();
        for (int i = 0; i < samples; ++i) {
            const double time = run_.seconds * (i + 0.5) / samples;
            at = std::find_if(at, std::prev(calls_.cend()),
                              [time](const Call& each) { return each.end >= time; });
            run_.rows_by_time.push_back(at->rows);
        }
        return std::move(run_);
    }

    Index max_batch_;
    bool has_steps_;
    mor::Engine<A, Cpu, Scheduling> engine_;
    std::vector<mor::RequestHandle> handles_;
    std::vector<double> last_;  // when each request had its latest token
    TurnClock clock_;
    Run run_;
    std::vector<Call> calls_;
    Index entered_ = 0;
};

/// Bytes of keys and values that one layer stores for a token.
[[nodiscard]] inline double layer_bytes(const mor::ModelConfig& sizes) {
    return 2.0 * static_cast<double>(sizes.num_kv_heads * sizes.head_dim) * sizeof(float);
}

/// Serves for so many seconds; gives how it went once all requests are answered.
using Turn = std::function<std::optional<Run>(double seconds)>;

/// One line of a table: how to measure it, and what was measured.
struct Line {
    mor::ModelConfig sizes;
    std::string setting;
    std::string model;
    std::string_view scheduling;
    mor::EngineOptions options;
    std::function<Turn()> begin = {};
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
        const auto tokens = static_cast<double>(run.counts.tokens);
        const double outside = run.seconds - run.model_seconds - run.draw_seconds;
        std::printf(
            "%-12s %-11s %-13s %3lld rows %5.1f sequences %6.1f tokens/s  %.3f GFLOP/token  "
            "occupancy %.2f (%.2f)  cache %5.1f MB  draw %.3f  scheduler %.3f  "
            "between %.3f / %.3f s  preemptions %lld\n",
            setting.c_str(), model.c_str(), std::string{scheduling}.c_str(),
            static_cast<long long>(options.max_batch), run.sequences, tokens / run.seconds,
            1e-9 * run.flops / tokens, run.occupancy, run.occupancy_steady, 1e-6 * run.cache_bytes,
            run.draw_seconds / run.seconds, outside / run.seconds, quantile(run.between, 0.5),
            quantile(run.between, 0.99), static_cast<long long>(run.counts.preemptions));
        return {{"setting", setting},
                {"model", model},
                {"scheduling", scheduling},
                {"max_batch", options.max_batch},
                {"max_sequences", options.max_sequences},
                {"cache_limit_bytes", options.cache_bytes},
                {"tokens", run.counts.tokens},
                {"seconds", run.seconds},
                {"seconds_of_runs", seconds},
                {"block_seconds_of_runs", block_seconds},
                {"tokens_per_second", tokens / run.seconds},
                {"flops_per_token", run.flops / tokens},
                {"block_seconds_per_token", run.block_seconds / tokens},
                {"leave_seconds_per_token", run.leave_seconds / tokens},
                {"model_seconds_per_token", run.model_seconds / tokens},
                {"draw_share", run.draw_seconds / run.seconds},
                {"scheduler_share", outside / run.seconds},
                {"occupancy", run.occupancy},
                {"occupancy_steady", run.occupancy_steady},
                {"mean_sequences", run.sequences},
                {"mean_cache_bytes", run.cache_bytes},
                {"peak_cache_bytes", run.peak_bytes},
                {"stored_bytes_per_token", static_cast<double>(run.counts.ended_bytes) /
                                               static_cast<double>(run.counts.ended_tokens)},
                {"layer_bytes_per_token", layer_bytes(sizes)},
                {"layers", sizes.num_layers},
                {"preemptions", run.counts.preemptions},
                {"first_token_median", quantile(run.first, 0.5)},
                {"first_token_p99", quantile(run.first, 0.99)},
                {"between_tokens_median", quantile(run.between, 0.5)},
                {"between_tokens_p99", quantile(run.between, 0.99)},
                {"rows_by_time", run.rows_by_time}};
    }
};

/// A model's lines: at a batch of 32 with memory for all; and, unless `bytes` is 0, with as many
/// sequences as so many bytes of keys and values hold. What a first run packs and allocates is not
/// measured.
template <class A>
void add_lines(const std::shared_ptr<const mor::Model<A, Cpu>>& model, const Setting& setting,
               const std::string& name, Index bytes, std::vector<Line>& lines) {
    Setting brief = setting;
    brief.prompts.resize(1);
    brief.lengths = {2};
    static_cast<void>(Service<mor::SequenceWise, A>{*model, brief, {}}.serve_for(1e9));
    const auto add = [&]<class Scheduling>(Scheduling, const char* group, Index rows,
                                           Index sequences, Index cache_bytes) {
        const mor::EngineOptions options{.max_batch = rows,
                                         .max_sequences = sequences,
                                         .prefill_chunk = 8,
                                         .cache_bytes = cache_bytes};
        lines.push_back(
            {model->config(), group, name, Scheduling::name, options, [=, &setting]() -> Turn {
                 const auto service =
                     std::make_shared<Service<Scheduling, A>>(*model, setting, options);
                 return [service, model](double seconds) { return service->serve_for(seconds); };
             }});
    };
    constexpr Index batch = 32;
    constexpr Index plenty = Index{1} << 28;
    constexpr Index no_limit = 3 * batch;
    add(mor::SequenceWise{}, "batch 32", batch, batch, plenty);
    if (bytes > 0) {
        add(mor::SequenceWise{}, "equal memory", no_limit, no_limit, bytes);
    }
    if constexpr (A::Sharing::has_steps && !mor::keeps_every_token<typename A::Router>) {
        add(mor::DepthWise{}, "batch 32", batch, 2 * batch - 1, plenty);
        if (bytes > 0) {
            // Fewer rows than there will be sequences: calls of the block are then nearly full.
            add(mor::DepthWise{}, "equal memory", 3 * batch / 4, no_limit, bytes);
        }
    }
}

/// How long a line serves before the next has its turn.
inline constexpr double turn_seconds = 0.5;

/// Measures all lines `repetitions` times and reports them. Lines take turns, so that whatever else
/// the machine does meanwhile slows them all alike.
[[nodiscard]] inline Json measure(std::vector<Line>& lines, int repetitions) {
    for (int i = 0; i < repetitions; ++i) {
        std::vector<std::pair<Line*, Turn>> left;
        for (Line& line : lines) {
            left.emplace_back(&line, line.begin());
        }
        while (!left.empty()) {
            std::erase_if(left, [](const auto& each) {
                std::optional<Run> run = each.second(turn_seconds);
                if (run) {
                    each.first->runs.push_back(*std::move(run));
                }
                return run.has_value();
            });
        }
    }
    Json rows = Json::array();
    for (Line& line : lines) {
        rows.push_back(line.report());
    }
    return rows;
}

}  // namespace serving
