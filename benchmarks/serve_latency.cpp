// SPDX-License-Identifier: Apache-2.0
//
// Latency against load: requests with log-normal prompts and answers arrive at random (Poisson) and
// are served as they come, at rates below and above what vanilla serves at once. Every model sees
// the same requests.
//
// usage: serve_latency 135M|360M REQUESTS OUTPUT.json
// Three such streams of requests, each at every rate; the times of all are put together.
#include "machine.hpp"
#include "serving.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace serving;

struct Request {
    double arrival = 0;  // in mean times between arrivals
    std::vector<mor::TokenId> prompt;
    Index answer = 1;
};

using Requests = std::vector<Request>;

/// Lengths are exp(log(median) + 0.6 * normal), at most four medians.
Requests make_requests(Index count, mor::Random& random) {
    constexpr double median_prompt = 32;
    constexpr double median_answer = 24;
    const auto length = [&](double median) {
        return std::clamp(std::lround(median * std::exp(0.6 * random.normal())), 1L,
                          std::lround(4 * median));
    };
    Requests requests(static_cast<std::size_t>(count));
    double time = 0;
    for (Request& request : requests) {
        time -= std::log(1 - random.uniform());
        request.arrival = time;
        request.prompt.resize(static_cast<std::size_t>(length(median_prompt)));
        for (mor::TokenId& token : request.prompt) {
            token = static_cast<mor::TokenId>(random.below(49'152));
        }
        request.answer = length(median_answer);
    }
    return requests;
}

constexpr Index max_batch = 32;

/// Of one rate.
struct Point {
    double seconds = 0;
    double requests = 0;
    double tokens = 0;
    std::vector<double> first_waits = {};
    std::vector<double> waits = {};
    double rows = 0;  // of all calls of the shared block
    double calls = 0;
    double cache_bytes = 0;  // in use, summed over the calls in which rows enter
    double entries = 0;

    void count(const mor::EngineCall& call, bool has_steps) {
        if (counts_as_batch(call, has_steps)) {
            rows += static_cast<double>(call.rows);
            ++calls;
        }
        if (call.part == mor::EnginePart::enter) {
            cache_bytes += static_cast<double>(call.cache_bytes);
            ++entries;
        }
    }

    [[nodiscard]] Json report(double load, double rate) const {
        return {{"load", load},
                {"requests_per_second", rate},
                {"served_per_second", requests / seconds},
                {"tokens_per_second", tokens / seconds},
                {"first_token_median", quantile(first_waits, 0.5)},
                {"first_token_p99", quantile(first_waits, 0.99)},
                {"between_tokens_median", quantile(waits, 0.5)},
                {"between_tokens_p99", quantile(waits, 0.99)},
                {"occupancy", rows / calls / max_batch},
                {"mean_cache_bytes", cache_bytes / entries}};
    }
};

/// Serves the requests, `rate` a second; 0: all at once.
template <class Scheduling, class A>
void serve(const mor::Model<A, Cpu>& model, const Requests& requests, double rate, Point& point) {
    const bool has_steps = model.layout().num_steps > 0;
    mor::Engine<A, Cpu, Scheduling> engine{
        model,
        {.max_batch = max_batch,
         .cache_bytes = Index{1} << 28,
         .on_call = [&](const mor::EngineCall& call) { point.count(call, has_steps); }}};
    std::vector<double> last(requests.size());
    std::vector<mor::RequestHandle> handles;
    const auto start = Clock::now();
    const auto now = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    const auto due = [&](std::size_t i) { return rate == 0 ? 0.0 : requests[i].arrival / rate; };
    const auto submit = [&](std::size_t i) {
        last[i] = due(i);
        handles.push_back(
            engine.submit(requests[i].prompt,
                          {.max_new_tokens = requests[i].answer,
                           .sampling = {.temperature = 0},
                           .on_token = [&, i, is_first = true](const mor::ServedToken&) mutable {
                               const double at = now();
                               (is_first ? point.first_waits : point.waits).push_back(at - last[i]);
                               is_first = false;
                               last[i] = at;
                           }}));
    };
    while (true) {
        while (handles.size() < requests.size() && due(handles.size()) <= now()) {
            submit(handles.size());
        }
        if (!engine.step()) {
            if (handles.size() == requests.size()) {
                break;
            }
            std::this_thread::sleep_for(std::chrono::duration<double>(due(handles.size()) - now()));
        }
    }
    point.seconds += now();
    for (const mor::RequestHandle& handle : handles) {
        mor::check<mor::Error>(handle.finish() == mor::Finish::length, "a request did not finish");
    }
    point.requests += static_cast<double>(requests.size());
    point.tokens += static_cast<double>(engine.counts().tokens);
}

struct Curve {
    std::string model;
    std::string_view scheduling;
    std::function<void(const Requests& requests, double rate, Point& point)> measure;
    Json points = Json::array();
};

template <class Scheduling, class A>
Curve curve(const std::string& name, const std::shared_ptr<mor::Model<A, Cpu>>& model) {
    return {name, Scheduling::name, [=](const Requests& requests, double rate, Point& point) {
                serve<Scheduling>(*model, requests, rate, point);
            }};
}

void print(const Curve& curve) {
    const Json& point = curve.points.back();
    std::printf(
        "%-8s %-13s %6.2f asked, %6.2f served a second  first %.3f / %.3f s  "
        "between %.3f / %.3f s\n",
        curve.model.c_str(), std::string{curve.scheduling}.c_str(),
        point["requests_per_second"].get<double>(), point["served_per_second"].get<double>(),
        point["first_token_median"].get<double>(), point["first_token_p99"].get<double>(),
        point["between_tokens_median"].get<double>(), point["between_tokens_p99"].get<double>());
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 4) {
        std::fprintf(stderr, "usage: serve_latency 135M|360M REQUESTS OUTPUT.json\n");
        return 2;
    }
    mor::ModelConfig sizes = sizes_of(argv[1]);
    sizes.max_positions = 256;
    const mor::ModelConfig recursive = sizes_with_steps(sizes, 3);
    mor::Random random{1};
    std::vector<Requests> streams(3);
    for (Requests& stream : streams) {
        stream = make_requests(std::atol(argv[2]), random);
    }
    Cpu cpu;
    const auto vanilla = std::make_shared<mor::Model<mor::Vanilla, Cpu>>(
        cpu, sizes, mor::ArchitectureOptions<mor::Vanilla>{}, 1);
    const auto mor3 = std::make_shared<mor::Model<BalancedMoR, Cpu>>(
        cpu, recursive, mor::ArchitectureOptions<BalancedMoR>{.sharing = {.num_recursions = 3}}, 1);
    std::vector<Curve> curves{curve<mor::SequenceWise>("vanilla", vanilla),
                              curve<mor::SequenceWise>("MoR 3", mor3),
                              curve<mor::DepthWise>("MoR 3", mor3)};
    for (const Curve& each : curves) {
        Point first;  // packs the weights
        each.measure(streams.front(), 0, first);
    }
    // Loads are shares of what vanilla serves when all requests are there from the start.
    Point all;
    for (const Requests& requests : streams) {
        curves.front().measure(requests, 0, all);
    }
    const double most = all.requests / all.seconds;
    for (const double load : {0.5, 0.75, 1.0, 1.3, 1.6}) {
        std::vector<Point> points(curves.size());
        for (const Requests& requests : streams) {
            for (std::size_t i = 0; i < curves.size(); ++i) {
                curves[i].measure(requests, load * most, points[i]);
            }
        }
        for (std::size_t i = 0; i < curves.size(); ++i) {
            curves[i].points.push_back(points[i].report(load, load * most));
            print(curves[i]);
        }
    }
    Json report{{"command", std::string{"serve_latency "} + argv[1] + " " + argv[2]},
                {"shape", argv[1]},
                {"machine", benchmarks::machine()},
                {"streams", streams.size()},
                {"requests", streams.size() * streams.front().size()},
                {"max_batch", max_batch},
                {"vanilla_requests_per_second", most},
                {"curves", Json::array()}};
    for (const Curve& each : curves) {
        report["curves"].push_back(
            {{"model", each.model}, {"scheduling", each.scheduling}, {"points", each.points}});
    }
    std::ofstream{argv[3]} << report.dump(1) << '\n';
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "serve_latency: %s\n", error.what());
    return 1;
}
