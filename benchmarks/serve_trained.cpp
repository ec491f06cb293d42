// SPDX-License-Identifier: Apache-2.0
//
// Serving the models that scripts/quickstart.sh trained: depths are those that routers have learnt.
// Prompts are pieces of the held-out text, answers are sampled.
//
// usage: serve_trained QUICKSTART_RESULTS REQUESTS MEAN_TOKENS OUTPUT.json
#include "machine.hpp"
#include "serving_run.hpp"
#include <mor/checkpoint.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace serving;

constexpr Index prompt_length = 32;

/// `count` pieces of a text, at equal distances.
std::vector<std::vector<mor::TokenId>> pieces(const mor::io::ByteCorpus& corpus, Index count) {
    std::vector<std::vector<mor::TokenId>> all;
    for (Index i = 0; i < count; ++i) {
        all.emplace_back(static_cast<std::size_t>(prompt_length));
        corpus.read(i * (corpus.size() - prompt_length) / count, all.back());
    }
    return all;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr,
                     "usage: serve_trained QUICKSTART_RESULTS REQUESTS MEAN_TOKENS OUTPUT.json\n");
        return 2;
    }
    const std::filesystem::path results = argv[1];
    const Index requests = std::atol(argv[2]);
    const double mean = std::atof(argv[3]);
    mor::Random random{1};
    Setting setting{.prompts = pieces(mor::io::ByteCorpus{results / "held_out.txt"}, requests),
                    .temperature = 0.8};
    setting.draw_lengths(requests, mean, random);
    Cpu cpu;
    std::vector<Line> lines;
    Index bytes = 0;
    const auto add = [&]<class A>(A, const std::string& name, const char* directory) {
        const auto model = std::make_shared<const mor::Model<A, Cpu>>(
            mor::load_model<A>(cpu, results / directory / "model"));
        if (bytes == 0) {  // what 40 of the first model's sequences store when each is half way
            bytes = static_cast<Index>(40 * (prompt_length + 0.5 * mean) *
                                       static_cast<double>(model->config().num_layers) *
                                       layer_bytes(model->config()));
        }
        add_lines<A>(model, setting, name, bytes, lines);
    };
    add(mor::Vanilla{}, "vanilla", "vanilla");
    add(mor::Recursive<>{}, "recursive", "recursive");
    add(mor::MoRExpert<>{}, "expert-choice", "mor_expert_choice");
    add(mor::MoRToken<>{}, "token-choice", "mor_token_choice");
    constexpr int repetitions = 5;
    const Json report{
        {"command", std::string{"serve_trained quickstart-results "} + argv[2] + " " + argv[3]},
        {"machine", benchmarks::machine()},
        {"requests", requests},
        {"mean_tokens", mean},
        {"prompt_tokens", prompt_length},
        {"repetitions", repetitions},
        {"rows", measure(lines, repetitions)}};
    std::ofstream{argv[4]} << report.dump(1) << '\n';
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "serve_trained: %s\n", error.what());
    return 1;
}
