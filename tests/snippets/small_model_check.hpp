// SPDX-License-Identifier: Apache-2.0
//
// That a small model of an architecture routes, and has the gradient of differences.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/testing/gradient_check.hpp>

#include <doctest/doctest.h>
#include <unit/model/training_pass.hpp>

#include <algorithm>
#include <vector>

namespace mor::test {

template <class A>
void check_small_model(Index num_layers) {
    using B = Cpu<double>;
    B cpu{{.threads = 1}};
    ModelConfig config = small_config<A>();
    config.num_layers = num_layers;
    Model<A, B> model{cpu, config, {}, 3};
    const Sequences sequences = random_sequences({9, 5}, config.vocab_size, 5);
    const auto targets = random_targets(sequences, config.vocab_size);
    Context<B> context{cpu};
    Trace<A, B> trace;
    training_pass(model, context, trace, sequences, targets);
    std::vector<Index> tokens_of(4, 0);
    for (const Index depth : token_depths(trace)) {
        ++tokens_of[static_cast<std::size_t>(depth)];
    }
    CHECK(*std::max_element(tokens_of.begin(), tokens_of.end()) < 14);  // not all of one depth

    // The slope along the gradient is the square of its length.
    double square = 0;
    std::vector<std::vector<double>> values;
    std::vector<std::vector<double>> gradients;
    model.visit_parameters([&](Parameter<B>& parameter) {
        values.push_back(to_host(parameter.value()));
        gradients.push_back(to_host(parameter.gradient()));
        for (const double g : gradients.back()) {
            square += g * g;
        }
    });
    const auto loss = [&](const std::vector<double>& distance) {
        std::size_t p = 0;
        model.visit_parameters([&](Parameter<B>& parameter) {
            std::vector<double> moved = values[p];
            for (std::size_t i = 0; i < moved.size(); ++i) {
                moved[i] += distance[0] * gradients[p][i];
            }
            from_host(parameter.value(), moved);
            ++p;
        });
        return training_pass(model, context, trace, sequences, targets);
    };
    const auto found = testing::check_gradient(loss, {0.0}, {square}, {.step = 1e-5});
    CHECK_MESSAGE(found.passes(), found.message());
}

}  // namespace mor::test
