// SPDX-License-Identifier: Apache-2.0
//
// Learning-rate schedules: a factor in [0, 1] on the peak rate.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string_view>
#include <tuple>

namespace mor {

/// `trapezoid`: linear warm-up, constant, linear cool-down to 0 (paper, appendix).
/// `cosine`: linear warm-up, then half a cosine to 0.
enum class ScheduleShape { trapezoid, cosine };

[[nodiscard]] constexpr std::string_view to_string(ScheduleShape shape) {
    return shape == ScheduleShape::trapezoid ? "trapezoid" : "cosine";
}
[[nodiscard]] constexpr std::array<ScheduleShape, 2> enum_values(ScheduleShape /*tag*/) {
    return {ScheduleShape::trapezoid, ScheduleShape::cosine};
}

struct LearningRateSchedule {
    ScheduleShape shape = ScheduleShape::trapezoid;
    Index warmup_steps = 0;
    Index cooldown_steps = 0;  // trapezoid only; the paper uses a fifth of all steps

    static constexpr auto fields() {
        using S = LearningRateSchedule;
        return std::tuple{Field{"shape", &S::shape}, Field{"warmup_steps", &S::warmup_steps},
                          Field{"cooldown_steps", &S::cooldown_steps}};
    }

    /// The factor of update `step` (from 0) of `num_steps`. The first of W warm-up updates has
    /// factor 0, as in the authors' trainer.
    [[nodiscard]] double factor(Index step, Index num_steps) const {
        const auto t = static_cast<double>(step);
        if (step < warmup_steps) {
            return t / static_cast<double>(warmup_steps);
        }
        if (shape == ScheduleShape::cosine) {
            const auto length = static_cast<double>(std::max<Index>(1, num_steps - warmup_steps));
            const double progress = std::min(1.0, (t - static_cast<double>(warmup_steps)) / length);
            return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
        }
        const Index cooldown_begin = num_steps - cooldown_steps;
        if (step < cooldown_begin) {
            return 1.0;
        }
        const auto length = static_cast<double>(std::max<Index>(1, cooldown_steps));
        return std::max(0.0, 1.0 - (t - static_cast<double>(cooldown_begin)) / length);
    }
};

}  // namespace mor
