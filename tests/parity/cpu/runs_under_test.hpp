// SPDX-License-Identifier: Apache-2.0
//
// mor_parity on the backends in host memory.
#pragma once

#include "parity/runs.hpp"

namespace parity {

inline constexpr Run cpu_bfloat16{
    "cpu bfloat16", {}, run_on_cpu_bfloat16, nullptr, too_close_to_round};
inline constexpr Run runs[] = {
    {"cpu float", float_tolerance, run_on_cpu_float, &cpu_bfloat16},
    {"cpu double", double_tolerance, run_on_cpu_double},
    {"reference double", double_tolerance, run_on_reference_double},
};

}  // namespace parity
