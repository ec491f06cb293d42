// SPDX-License-Identifier: Apache-2.0
#include <mor/train/learning_rate.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using mor::Index;
using mor::LearningRateSchedule;
using mor::ScheduleShape;

namespace {

std::vector<double> factors(const LearningRateSchedule& schedule, Index num_steps) {
    std::vector<double> result;
    for (Index step = 0; step < num_steps; ++step) {
        result.push_back(schedule.factor(step, num_steps));
    }
    return result;
}

}  // namespace

TEST_CASE("a trapezoid rises from 0, stays at 1 and falls towards 0") {
    const LearningRateSchedule schedule{ScheduleShape::trapezoid, 4, 4};
    CHECK(factors(schedule, 12) ==
          std::vector<double>{0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25});
    CHECK(schedule.factor(12, 12) == 0);
    CHECK(schedule.factor(20, 12) == 0);
}

TEST_CASE("a trapezoid without warm-up and cool-down is constant") {
    CHECK(factors({}, 3) == std::vector<double>{1, 1, 1});
    CHECK(LearningRateSchedule{}.factor(0, 1) == 1);
    CHECK(LearningRateSchedule{}.factor(5, 3) == 0);
}

TEST_CASE("a cosine rises from 0 and falls by half a period") {
    const LearningRateSchedule schedule{ScheduleShape::cosine, 2, 0};
    CHECK(schedule.factor(0, 10) == 0);
    CHECK(schedule.factor(1, 10) == 0.5);
    CHECK(schedule.factor(2, 10) == 1);
    CHECK(schedule.factor(4, 10) == doctest::Approx(0.5 * (1 + std::sqrt(0.5))));
    CHECK(schedule.factor(6, 10) == doctest::Approx(0.5));
    CHECK(schedule.factor(8, 10) == doctest::Approx(0.5 * (1 - std::sqrt(0.5))));
    CHECK(std::abs(schedule.factor(10, 10)) < 1e-15);
    CHECK(std::abs(schedule.factor(99, 10)) < 1e-15);
}

TEST_CASE("a factor never leaves [0, 1], whatever the numbers") {
    for (const auto shape : enum_values(ScheduleShape{})) {
        for (const Index warmup : {0, 1, 5, 100}) {
            for (const Index cooldown : {0, 1, 5, 100}) {
                for (const Index steps : {0, 1, 7, 20}) {
                    for (Index step = 0; step < 30; ++step) {
                        const double factor =
                            LearningRateSchedule{shape, warmup, cooldown}.factor(step, steps);
                        CHECK(factor >= 0);
                        CHECK(factor <= 1);
                    }
                }
            }
        }
    }
}
