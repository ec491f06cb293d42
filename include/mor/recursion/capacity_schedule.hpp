// SPDX-License-Identifier: Apache-2.0
//
// Capacities that shrink with the recursion step (paper, section 2.2.1 and appendix): given at run
// time, Nr/Nr, (Nr-1)/Nr, ..., 1/Nr unless listed, with a cosine warm-up from 1; or in the type.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/recursion/concept.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <string_view>
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
    void check_steps(Index num_steps) const {
        check<ConfigError>(
            options_.capacities.empty() || std::ssize(options_.capacities) == num_steps,
            "mor::CapacitySchedule: ", options_.capacities.size(), " capacities for ", num_steps,
            " recursion steps");
    }

    /// Throws like check_steps.
    [[nodiscard]] double capacity(Index step, Index num_steps, Index training_step) const {
        check_steps(num_steps);
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
        return options_.capacities[static_cast<std::size_t>(step)];
    }

    Options options_;
};
static_assert(SchedulePolicy<CapacitySchedule>);

/// Capacities that are known when the program is compiled, in percent of a sequence, one a step:
/// FixedCapacities<100, 67, 33>. No warm-up.
template <Index... percents>
class FixedCapacities {
    static constexpr std::array<Index, sizeof...(percents)> list{percents...};
    static constexpr bool is_possible = [] {
        Index previous = 100;
        return ((percents >= 1 && percents <= std::exchange(previous, percents)) && ...) &&
               sizeof...(percents) > 0;
    }();
    static_assert(
        is_possible,
        "mor: SchedulePolicy: FixedCapacities needs one percentage a recursion step, from 1 to "
        "100, none larger than the one before. See docs/concepts/schedule_policy.md");

    // "fixed_capacities.100.067.033": a checkpoint of other capacities is another model.
    static constexpr auto characters = [] {
        constexpr std::string_view base = "fixed_capacities";
        std::array<char, base.size() + 4 * sizeof...(percents)> text{};
        auto out = std::copy(base.begin(), base.end(), text.begin());
        const auto digit = [](Index value) { return static_cast<char>('0' + value % 10); };
        for (const Index percent : list) {
            *out++ = '.';
            *out++ = digit(percent / 100);
            *out++ = digit(percent / 10);
            *out++ = digit(percent);
        }
        return text;
    }();

public:
    static constexpr std::string_view name{characters.data(), characters.size()};

    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit FixedCapacities(const Options& /*options*/ = {}) {}

    /// Throws ConfigError if there are not as many capacities as steps.
    void check_steps(Index num_steps) const {
        check<ConfigError>(std::ssize(list) == num_steps, "mor::FixedCapacities: ", list.size(),
                           " capacities for ", num_steps, " recursion steps");
    }

    /// Throws like check_steps.
    [[nodiscard]] double capacity(Index step, Index num_steps, Index /*training_step*/) const {
        check_steps(num_steps);
        return static_cast<double>(list[static_cast<std::size_t>(step)]) / 100.0;
    }
};
static_assert(SchedulePolicy<FixedCapacities<100>>);

}  // namespace mor
