// SPDX-License-Identifier: Apache-2.0
//
// Training with products of rounded factors follows training in float: the loss over 200 updates on
// text that is committed here. Which system is tested says under_test.hpp, found by the include
// path.
#include "under_test.hpp"
#include <mor/backends/cuda/bfloat16_products.hpp>
#include <mor/io/byte_corpus.hpp>
#include <mor/model/presets.hpp>
#include <mor/train/trainer.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <vector>

namespace {

using mor::Index;
using Exact = std::tuple_element_t<0, backend_tests::BackendsUnderTest>;
using Rounding = mor::Cuda<float, mor::cuda::BFloat16Products<Exact::System>>;

constexpr Index num_steps = 200;

/// The loss of each update.
template <class A, class B>
std::vector<double> loss_curve() {
    B backend;
    mor::Model<A, B> model{backend,
                           {.vocab_size = 256,
                            .hidden_size = 32,
                            .intermediate_size = 64,
                            .num_layers = 5,
                            .num_heads = 2,
                            .num_kv_heads = 1,
                            .head_dim = 16,
                            .max_positions = 64},
                           {},
                           1};
    const mor::io::ByteCorpus text{MOR_TEST_TEXT};
    mor::Trainer trainer{model,
                         text,
                         {0, text.size()},
                         {.steps = num_steps,
                          .batch = 2,
                          .sequence = 64,
                          .measures_routing = false,
                          .optimizer = {.learning_rate = 0.001}}};
    std::vector<double> losses;
    trainer.run([&](const mor::StepReport& report) { losses.push_back(report.loss); });
    return losses;
}

double mean(const std::vector<double>& losses, Index first, Index last) {
    return std::accumulate(losses.begin() + first, losses.begin() + last, 0.0) /
           static_cast<double>(last - first);
}

}  // namespace

TEST_CASE_TEMPLATE("with bfloat16 products the loss stays within 1 % of float's", A, mor::Vanilla,
                   mor::MoRExpert<>) {
    const std::vector<double> exact = loss_curve<A, Exact>();
    const std::vector<double> rounding = loss_curve<A, Rounding>();
    REQUIRE(std::ssize(exact) == num_steps);
    REQUIRE(std::ssize(rounding) == num_steps);
    CHECK(exact != rounding);
    constexpr Index window = 20;
    for (Index first = 0; first < num_steps; first += window) {
        const double expected = mean(exact, first, first + window);
        const double found = mean(rounding, first, first + window);
        CAPTURE(first);
        CAPTURE(expected);
        CAPTURE(found);
        CHECK(std::abs(found - expected) < 0.01 * expected);
    }
    // There was something to follow.
    CHECK(mean(exact, 0, 1) > std::log(256.0) - 0.5);
    CHECK(mean(exact, num_steps - window, num_steps) < 3.0);
}
