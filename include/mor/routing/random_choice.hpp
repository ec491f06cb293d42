// SPDX-License-Identifier: Apache-2.0
//
// Random routing, for ablations: every token has a random priority, and each step keeps the
// highest. What a learned router has to beat.
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/rows.hpp>
#include <mor/ops/scale.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/scores.hpp>

#include <cstdint>
#include <string_view>
#include <tuple>

namespace mor {

class RandomChoice {
public:
    static constexpr std::string_view name = "random_choice";
    using Merge = GateEachStep;

    struct Options {
        double alpha = 0.1;  // gate = alpha * priority, uniform in [0, 1)
        std::uint64_t seed = 0;

        static constexpr auto fields() {
            return std::tuple{Field{"alpha", &Options::alpha}, Field{"seed", &Options::seed}};
        }
    };

    /// Throws ConfigError if alpha is out of range.
    explicit RandomChoice(const Options& options) : options_{options} {
        detail::check_positive(options.alpha, "mor::RandomChoice: alpha");
    }

    /// Keeps as many rows as expert-choice does. In a causal pass a priority depends on the token's
    /// position alone and the rows above 1 - capacity stay, so that decoding repeats a full pass.
    /// A priority is no logit, so DepthControl::threshold_offset does not move that bound.
    template <Backend B>
    Index select(Context<B>& context, const StepView<B>& step) const {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const bool causal = step.decision == Decision::causal;
        const MatrixView<B> priority = context.matrix(step.num_candidates(), 1);
        ops::uniform_by_position<B>(
            context, step.rows, causal ? Draw::by_position : Draw::by_sequence_and_position,
            options_.seed, static_cast<std::uint64_t>(step.training_step), priority.flat());
        const Index kept = detail::keep_best<B>(context, step, priority.flat(),
                                                {priority.flat(), 1.0 - step.capacity});
        const MatrixView<B> weight{step.weight.data(), {kept, 1}};
        ops::gather_rows<B>(context, priority, step.kept.slice(0, kept), weight);
        ops::scale<B>(context, weight, options_.alpha, weight);
        return kept;
    }

private:
    Options options_;
};

}  // namespace mor
