// SPDX-License-Identifier: Apache-2.0
//
// Which bytes think longer? Trains a small token-choice model on a text, reads a held-out passage
// with an observer, and prints how deep each class of bytes went.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

using Cpu = mor::Cpu<float>;

constexpr std::array<const char*, 5> classes{"first of a word", "letters", "digits", "punctuation",
                                             "space"};

std::size_t class_of(mor::TokenId before, mor::TokenId byte) {
    if (std::isalpha(byte) != 0) {
        return std::isalpha(before) != 0 ? 1 : 0;
    }
    return std::isdigit(byte) != 0 ? 2 : std::ispunct(byte) != 0 ? 3 : 4;
}

// Counts the rows that took each step. It sees nothing else, and nothing else costs anything.
struct DepthObserver {
    std::vector<mor::Index> depths;

    void operator()(const mor::StepSeen<Cpu>& seen) {
        depths.resize(static_cast<std::size_t>(seen.hidden.rows()), 0);
        for (const mor::Index row : mor::to_host(seen.active)) {
            ++depths[static_cast<std::size_t>(row)];
        }
    }
};

// Trains on the text named by the first argument for as many steps as the second says.
int main(int argc, char** argv) try {
    const long long steps = argc == 3 ? std::atoll(argv[2]) : 0;
    if (steps < 1) {
        std::fprintf(stderr, "usage: depth_by_class TEXT STEPS\n");
        return 2;
    }
    Cpu cpu;
    mor::Model<mor::MoRToken<>, Cpu> model{cpu, {.hidden_size = 64, .intermediate_size = 192}};
    const mor::io::ByteCorpus text{argv[1]};
    const mor::DataSplit data = mor::split(text, text.size() / 10, 128);
    mor::Trainer trainer{model, text, data.training, {.steps = steps, .sequence = 128}};
    trainer.run([](const mor::StepReport&) {});

    const mor::Index length = std::min<mor::Index>(1'024, data.held_out.size());
    std::vector<mor::TokenId> passage(static_cast<std::size_t>(length));
    text.read(data.held_out.first, passage);
    const std::vector<mor::Index> lengths{length};
    mor::Trace<mor::MoRToken<>, Cpu> trace;
    DepthObserver observer;
    model.forward(trainer.context(), {passage, lengths}, {.decision = mor::Decision::causal}, trace,
                  observer);

    std::array<std::array<double, 4>, classes.size()> counts{};  // [class][depth, 0: all]
    for (std::size_t i = 1; i < passage.size(); ++i) {
        auto& row = counts[class_of(passage[i - 1], passage[i])];
        ++row[0];
        ++row[static_cast<std::size_t>(observer.depths[i])];
    }
    std::printf("%-16s %6s  depth 1  depth 2  depth 3\n", "class", "bytes");
    bool is_right = observer.depths == mor::token_depths(trace);
    for (std::size_t c = 0; c < classes.size(); ++c) {
        std::printf("%-16s %6.0f", classes[c], counts[c][0]);
        double sum = 0;
        for (std::size_t depth = 1; depth <= 3; ++depth) {
            const double percent = 100 * counts[c][depth] / std::max(1.0, counts[c][0]);
            std::printf("  %5.1f %%", percent);
            sum += percent;
        }
        std::printf("\n");
        is_right = is_right && (counts[c][0] == 0 || std::abs(sum - 100) < 1e-9);
    }
    if (!is_right) {
        std::fprintf(stderr, "depth_by_class: expected the trace's depths, and shares of 100 %%\n");
        return 1;
    }
} catch (const mor::Error& error) {
    std::fprintf(stderr, "depth_by_class: %s\n", error.what());
    return 1;
}
