// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/cpu/cpu.hpp>
#include <mor/checkpoint/metrics.hpp>

#include <doctest/doctest.h>
#include <unit/checkpoint/file_size_limit.hpp>
#include <unit/io/temp_directory.hpp>
#include <unit/train/token_text.hpp>

#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;
using mor::IoError;

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
    std::vector<nlohmann::json> lines;
    std::ifstream in{path};
    for (std::string line; std::getline(in, line);) {
        lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
}

/// A training run that writes its metrics.
template <class A>
struct Run {
    TempDirectory directory = {};
    std::filesystem::path path = directory / "metrics.jsonl";
    mor::Cpu<double> cpu{{.threads = 1}};
    mor::Model<A, mor::Cpu<double>> model{cpu, small_config<A>(), small_options<A>(), 3};
    TokenText text = random_text(200);
    mor::Trainer<A, mor::Cpu<double>, TokenText> trainer{
        model, text, text.all(), {.batch = 2, .sequence = 10}};
    mor::MetricsFile metrics{path};
};

}  // namespace

TEST_CASE("each update is a line of JSON, on disk at once") {
    Run<mor::MoRToken<>> run;
    for (std::size_t step = 1; step <= 3; ++step) {
        const auto report = run.trainer.step();
        run.metrics.write(report);
        const auto lines = lines_of(run.path);
        REQUIRE(lines.size() == step);
        const auto& line = lines.back();
        CHECK(line.at("step") == step);
        CHECK(line.at("loss") == report.loss);
        CHECK(line.at("gradient_norm") == report.gradient_norm);
        CHECK(line.at("learning_rate") == report.learning_rate);
        CHECK(line.at("tokens") == 20);
        CHECK(line.at("flops") == report.flops);
        CHECK(line.at("seconds") == report.seconds);
        CHECK(line.at("balancing") == report.losses.at(0).value);
        CHECK(line.at("router_z") == report.losses.at(1).value);
        CHECK(line.at("active_share") == report.active_share);
        CHECK(line.at("routing").at("depth_histogram") == report.routing->depth_histogram);
        CHECK(line.size() == 11);
    }

    SUBCASE("and a second program appends") {
        mor::MetricsFile again{run.path};
        again.write({.step = 4});
        CHECK(lines_of(run.path).size() == 4);
        CHECK_FALSE(lines_of(run.path).back().contains("active_share"));
    }
}

TEST_CASE("all that is measured of a router is written") {
    Run<ExpertAuxiliary> run;
    const auto report = run.trainer.step();
    run.metrics.write(report);
    const auto routing = lines_of(run.path).front().at("routing");
    CHECK(routing.at("sampling_accuracy") == report.routing->sampling_accuracy.value());
    CHECK(routing.at("top_k_agreement") == report.routing->top_k_agreement.value());
    CHECK(routing.at("dead_token_ratio") == report.routing->dead_token_ratio);
    CHECK(routing.at("max_violation") == report.routing->max_violation);
    CHECK(routing.at("load_entropy") == report.routing->load_entropy);
    CHECK(routing.at("depth_histogram") == report.routing->depth_histogram);
    REQUIRE(routing.at("scores").size() == 3);
    for (std::size_t step = 0; step < 3; ++step) {
        const mor::ScoreHistogram& scores = report.routing->scores[step];
        CHECK(routing.at("scores")[step].at("selected") == scores.selected);
        CHECK(routing.at("scores")[step].at("unselected") == scores.unselected);
    }
}

TEST_CASE("a file that cannot be opened or written is named") {
    const TempDirectory directory;
    const auto lost = (directory / "no/metrics.jsonl").string();
    CHECK(message_of<IoError>([&] { mor::MetricsFile{lost}; }) ==
          lost + ": cannot be opened for writing");
    const auto path = (directory / "metrics.jsonl").string();
    mor::MetricsFile metrics{path};
    const FileSizeLimit limit{10};
    CHECK(message_of<IoError>([&] { metrics.write({.step = 1}); }) == path + ": cannot be written");
}
