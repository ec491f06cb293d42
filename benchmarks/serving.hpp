// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of serving share: shapes, and a router with balanced depths.
#pragma once

#include <mor/mor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace serving {

using mor::Index;
using Cpu = mor::Cpu<float>;
using RoundingCpu = mor::Cpu<float, mor::BFloat16>;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

/// Keeps each token with the probability that makes all depths equally frequent; which tokens, is
/// a hash of their hidden states.
struct Balanced {
    static constexpr std::string_view name = "benchmark.balanced";
    using Merge = mor::GateEachStep;
    struct Options {};
    explicit Balanced(const Options& /*options*/) {}

    template <mor::HostBackend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        Index kept = 0;
        const auto left = static_cast<double>(step.num_steps - step.step);
        for (Index i = 0; i < step.num_candidates(); ++i) {
            std::uint64_t bits = static_cast<std::uint64_t>(step.step);
            for (Index c = 0; c < 4; ++c) {
                bits =
                    (bits ^ std::bit_cast<std::uint32_t>(step.hidden(i, c))) * 0x9E3779B97F4A7C15U;
                bits ^= bits >> 29;
            }
            const double uniform = static_cast<double>(bits >> 11) * 0x1p-53;
            if (step.step == 0 || uniform < left / (left + 1)) {
                step.kept[kept] = i;
                step.weight[kept++] = 0.1F;
            }
        }
        return kept;
    }
};
struct BalancedMoR : mor::DefaultArchitecture {
    using Router = Balanced;
};

/// The shapes of SmolLM. Throws ConfigError for another name.
[[nodiscard]] inline mor::ModelConfig sizes_of(const std::string& shape) {
    mor::ModelConfig sizes{.vocab_size = 49'152,
                           .hidden_size = 576,
                           .intermediate_size = 1'536,
                           .num_layers = 30,
                           .num_heads = 9,
                           .num_kv_heads = 3,
                           .head_dim = 64,
                           .max_positions = 2'048};
    if (shape == "360M") {
        sizes.hidden_size = 960;
        sizes.intermediate_size = 2'560;
        sizes.num_layers = 32;
        sizes.num_heads = 15;
        sizes.num_kv_heads = 5;
    } else {
        mor::check<mor::ConfigError>(shape == "135M", "no shape ", shape, ", only 135M and 360M");
    }
    return sizes;
}

/// The value below which a share q of `values` lies; 0 without values.
[[nodiscard]] inline double quantile(std::vector<double> values, double q) {
    if (values.empty()) {
        return 0;
    }
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

/// Is this a call whose rows are the engine's occupancy: one of the shared block, or of the whole
/// stack if the model has no recursion.
[[nodiscard]] inline bool counts_as_batch(const mor::EngineCall& call, bool has_steps) {
    return call.part == (has_steps ? mor::EnginePart::shared_block : mor::EnginePart::enter);
}

/// The shape with as many layers as `num_recursions` equal steps between two unshared layers need,
/// as in the paper.
[[nodiscard]] inline mor::ModelConfig sizes_with_steps(mor::ModelConfig sizes,
                                                       Index num_recursions) {
    while ((sizes.num_layers - 2) % num_recursions != 0) {
        ++sizes.num_layers;
    }
    return sizes;
}

/// A model of that shape: with so many recursions, if its architecture has any.
template <class A>
struct Shape {
    Shape(mor::ModelConfig shape, Index num_recursions) : sizes{shape} {
        if constexpr (A::Sharing::has_steps) {
            options.sharing.num_recursions = num_recursions;
            sizes = sizes_with_steps(shape, num_recursions);
        }
    }

    mor::ModelConfig sizes;
    mor::ArchitectureOptions<A> options = {};
};

/// A model of a published shape with random weights, made once a program: drawing them takes longer
/// than a measurement.
template <class A, class Backend>
[[nodiscard]] const mor::Model<A, Backend>& model_of(const std::string& name,
                                                     Index num_recursions) {
    struct Made {
        explicit Made(const Shape<A>& shape) : model{cpu, shape.sizes, shape.options, 1} {}
        Backend cpu;
        mor::Model<A, Backend> model;
    };
    static std::map<std::pair<std::string, Index>, std::unique_ptr<Made>> all;
    std::unique_ptr<Made>& made = all[{name, num_recursions}];
    if (!made) {
        made = std::make_unique<Made>(Shape<A>{sizes_of(name), num_recursions});
    }
    return made->model;
}

}  // namespace serving
