// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of serving share: a router with balanced depths, and models.
#pragma once

#include "quantile.hpp"
#include "reads.hpp"
#include "shapes.hpp"
#include <mor/mor.hpp>

#include <nlohmann/json.hpp>

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

/// Rounded when they are packed.
template <>
inline constexpr double benchmarks::weight_bytes<mor::Cpu<float, mor::BFloat16>> =
    sizeof(mor::BFloat16);

namespace serving {

using mor::Index;
using Cpu = mor::Cpu<float>;
using RoundingCpu = mor::Cpu<float, mor::BFloat16>;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using benchmarks::quantile;
using benchmarks::Shape;
using benchmarks::sizes_of;
using benchmarks::sizes_with_steps;

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

/// Is this a call whose rows are the engine's occupancy: one of the shared block, or of the whole
/// stack if the model has no recursion.
[[nodiscard]] inline bool counts_as_batch(const mor::EngineCall& call, bool has_steps) {
    return call.part == (has_steps ? mor::EnginePart::shared_block : mor::EnginePart::enter);
}

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
