// SPDX-License-Identifier: Apache-2.0
//
// No relaxation: all uses of a layer share all of its weights.
#pragma once

#include <mor/layers/linear.hpp>
#include <mor/layers/relaxation/concept.hpp>
#include <mor/layers/rms_norm.hpp>

#include <string>
#include <string_view>
#include <tuple>

namespace mor {

/// Adds nothing to the output of attention.
struct NoPrompt {
    struct Saved {};
    static constexpr bool is_empty = true;
    NoPrompt(const LayerUses& /*uses*/, const std::string& /*name*/) {}
    void initialize(Random& /*random*/, double /*deviation*/) {}
    template <class Visitor>
    void visit_parameters(Visitor&& /*visitor*/) {}
};

/// Leaves the output of a block as it is.
struct NoOutput {
    struct Saved {};
    static constexpr bool is_empty = true;
    NoOutput(const LayerUses& /*uses*/, const std::string& /*name*/) {}
    template <class Visitor>
    void visit_parameters(Visitor&& /*visitor*/) {}
};

struct NoRelaxation {
    static constexpr std::string_view name = "none";
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };
    template <Backend B>
    using Norm = Shared<RmsNorm<B>>;
    template <Backend B>
    using Projection = Shared<Linear<B>>;
    template <Backend B>
    using Prompt = NoPrompt;
    template <Backend B>
    using Output = NoOutput;
};

}  // namespace mor
