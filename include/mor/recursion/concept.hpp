// SPDX-License-Identifier: Apache-2.0
//
// What a schedule must be.
#pragma once

#include <mor/core/types.hpp>

#include <concepts>
#include <string_view>

namespace mor {

/// A schedule says which fraction of a sequence may take a recursion step. `training_step` counts
/// from 1; 0 means "not training", and the schedule's final value.
template <class S>
concept SchedulePolicy =
    requires { typename S::Options; } && std::constructible_from<S, const typename S::Options&> &&
    requires(const S& schedule, Index step, Index num_steps, Index training_step) {
        { S::name } -> std::convertible_to<std::string_view>;
        { schedule.capacity(step, num_steps, training_step) } -> std::convertible_to<double>;
    };

}  // namespace mor
