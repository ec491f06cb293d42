// SPDX-License-Identifier: Apache-2.0
//
// A random number of steps in each training pass, the same for all tokens, so that a model works at
// every depth (Geiping et al. 2025, section 3.3). Otherwise every token takes every step; cap it
// with DepthControl.
#pragma once

#include <mor/core/random.hpp>
#include <mor/core/reflect.hpp>
#include <mor/ops/rows.hpp>
#include <mor/routing/concept.hpp>
#include <mor/routing/scores.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <tuple>

namespace mor {

class RandomDepth {
public:
    static constexpr std::string_view name = "random_depth";
    using Merge = Replace;
    struct Options {
        double mean = 2.0;       // of a log-normal Poisson distribution, before 1 is added
        double deviation = 0.5;  // of the logarithm of its rate
        std::uint64_t seed = 0;

        static constexpr auto fields() {
            return std::tuple{Field{"mean", &Options::mean},
                              Field{"deviation", &Options::deviation},
                              Field{"seed", &Options::seed}};
        }
    };

    /// Throws ConfigError if an option is out of range.
    explicit RandomDepth(const Options& options) : options_{options} {
        detail::check_positive(options.mean, "mor::RandomDepth: mean");
        detail::check_not_negative(options.deviation, "mor::RandomDepth: deviation");
    }

    template <Backend B>
    Index select(Context<B>& context, const StepView<B>& step) const {
        if (step.training_step > 0 && step.step >= depth(step.training_step, step.num_steps)) {
            return 0;
        }
        ops::number_rows<B>(context, step.kept);
        return step.num_candidates();
    }

    /// The depth of a training pass, from 1 to num_steps.
    [[nodiscard]] Index depth(Index training_step, Index num_steps) const {
        Random random{options_.seed, static_cast<std::uint64_t>(training_step)};
        const double spread = options_.deviation;
        const double rate =
            std::exp(std::log(options_.mean) - spread * spread / 2 + spread * random.normal());
        // Knuth's way to draw from a Poisson distribution, which ends at num_steps at the latest.
        Index drawn = 0;
        for (double product = random.uniform(); drawn + 1 < num_steps && product > std::exp(-rate);
             product *= random.uniform()) {
            ++drawn;
        }
        return drawn + 1;
    }

private:
    Options options_;
};

}  // namespace mor
