// SPDX-License-Identifier: Apache-2.0
//
// Capacities that shrink with the recursion step: Nr/Nr, (Nr-1)/Nr, ..., 1/Nr unless given, with
// a cosine warm-up from 1 (paper, section 2.2.1 and appendix).
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/recursion/concept.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>
#include <utility>
#include <vector>

namespace mor {

class CapacitySchedule {
public:
    static constexpr std::string_view name = "capacity";

    struct Options {
        std::vector<double> capacities =
            {};                  // one a step, in (0, 1], not increasing; empty: Nr/Nr ... 1/Nr
        Index warmup_steps = 0;  // training steps from capacity 1 to the final value

        static constexpr auto fields() {
            return std::tuple{Field{"capacities", &Options::capacities},
                              Field{"warmup_steps", &Options::warmup_steps}};
        }
    };

    /// Throws ConfigError if a capacity is outside (0, 1] or larger than the one before.
    explicit CapacitySchedule(const Options& options) : options_{options} {
        double previous = 1.0;
        for (const double capacity : options_.capacities) {
            check<ConfigError>(capacity > 0 && capacity <= previous,
                               "mor::CapacitySchedule: ", capacity, " after ", previous,
                               "; capacities lie in (0, 1] and do not increase");
            previous = capacity;
        }
        check<ConfigError>(options_.warmup_steps >= 0, "mor::CapacitySchedule: warmup_steps is ",
                           options_.warmup_steps, ", expected 0 or more");
    }

    /// Throws ConfigError if the list of capacities has another length than the recursion.
    [[nodiscard]] double capacity(Index step, Index num_steps, Index training_step) const {
        const double last = final_capacity(step, num_steps);
        if (training_step == 0 || options_.warmup_steps == 0) {
            return last;
        }
        const double progress = std::min(
            1.0, static_cast<double>(training_step) / static_cast<double>(options_.warmup_steps));
        const double decay = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
        return last + (1.0 - last) * decay;
    }

private:
    [[nodiscard]] double final_capacity(Index step, Index num_steps) const {
        if (options_.capacities.empty()) {
            return static_cast<double>(num_steps - step) / static_cast<double>(num_steps);
        }
        check<ConfigError>(std::ssize(options_.capacities) == num_steps,
                           "mor::CapacitySchedule: ", options_.capacities.size(),
                           " capacities for ", num_steps, " recursion steps");
        return options_.capacities[static_cast<std::size_t>(step)];
    }

    Options options_;
};
static_assert(SchedulePolicy<CapacitySchedule>);

}  // namespace mor
