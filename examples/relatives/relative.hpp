// SPDX-License-Identifier: Apache-2.0
//
// What every relative is shown to do: train on a text, and decode token by token exactly.
#pragma once

#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

namespace relatives {

using Cpu = mor::Cpu<float>;

/// Largest difference between the logits of one whole causal pass and of passes of one token each.
/// Writes how often each depth came.
template <class A>
double decoding_error(const mor::Model<A, Cpu>& model, const std::vector<mor::TokenId>& tokens,
                      std::map<mor::Index, int>& depths) {
    mor::Context<Cpu> context{model.backend()};
    mor::Trace<A, Cpu> trace;
    const std::vector<mor::Index> whole{std::ssize(tokens)};
    model.forward(context, {tokens, whole}, {.decision = mor::Decision::causal}, trace);
    const std::vector<float> expected = mor::to_host(trace.logits);
    const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);
    auto cache = model.make_cache(1);
    const std::vector<mor::Index> one{1};
    double largest = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        model.extend(context, {std::span{&tokens[i], 1}, one}, cache, trace);
        ++depths[mor::token_depths(trace).front()];
        const std::vector<float> found = mor::to_host(trace.logits);
        for (std::size_t j = 0; j < vocabulary; ++j) {
            const double difference = std::abs(double{found[j]} - expected[i * vocabulary + j]);
            largest = std::isnan(difference) ? difference : std::max(largest, difference);
        }
    }
    return largest;
}

/// Trains on the text named by the first argument for as many steps as the second says. Returns
/// what main returns: 0 if the loss ends below `bound` nats a byte, decoding is exact, and the
/// recursion does something.
template <class A>
int run(int argc, char** argv, double bound, const mor::ModelConfig& config,
        const mor::ArchitectureOptions<A>& options = {}) try {
    const long long steps = argc == 3 ? std::atoll(argv[2]) : 0;
    if (steps < 1) {
        std::fprintf(stderr, "usage: %s TEXT STEPS\n", argv[0]);
        return 2;
    }
    Cpu cpu;
    mor::Model<A, Cpu> model{cpu, config, options, 1};
    const mor::io::ByteCorpus text{argv[1]};
    const mor::DataSplit data = mor::split(text, text.size() / 10, 64);
    // Without the warm-up, layers that are used several times learn next to nothing in the first
    // hundred updates.
    mor::Trainer trainer{model,
                         text,
                         data.training,
                         {.steps = steps,
                          .batch = 4,
                          .sequence = 64,
                          .schedule = {.warmup_steps = steps / 6, .cooldown_steps = steps / 5}}};
    const long long last = std::min(steps, 10LL);
    double loss = 0;  // mean of the last updates
    trainer.run([&](const mor::StepReport& report) {
        loss += report.step > steps - last ? report.loss / static_cast<double>(last) : 0.0;
        if (report.step % 25 == 0 || report.step == 1) {
            std::printf("step %3lld  loss %.3f  tokens active", static_cast<long long>(report.step),
                        report.loss);
            for (const double share : report.active_share) {
                std::printf(" %3.0f %%", 100 * share);
            }
            std::printf("\n");
        }
    });
    std::vector<mor::TokenId> tokens(48);
    text.read(data.held_out.first, tokens);
    std::map<mor::Index, int> depths;
    const double error = decoding_error(model, tokens, depths);
    std::printf("loss %.3f (bound %.2f), decoding differs by %.1e, bytes of depth", loss, bound,
                error);
    for (const auto& [depth, count] : depths) {
        std::printf(" %lld: %d", static_cast<long long>(depth), count);
    }
    std::printf("\n");
    // Tokens that are routed must have gone different ways; a depth for all must be a real one.
    constexpr bool is_random = std::same_as<typename A::Router, mor::RandomDepth>;
    const bool recurs = mor::keeps_every_token<typename A::Router> ||
                        (is_random ? depths.begin()->first > 1 : depths.size() > 1);
    return loss < bound && error < 1e-4 && recurs ? 0 : 1;
} catch (const mor::Error& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
}

/// Four heads of 16; the rest is up to the architecture.
inline mor::ModelConfig small(mor::Index num_layers) {
    return {.hidden_size = 64,
            .intermediate_size = 192,
            .num_layers = num_layers,
            .num_heads = 4,
            .num_kv_heads = 2,
            .head_dim = 16};
}

}  // namespace relatives
