// SPDX-License-Identifier: Apache-2.0
//
// The backends and precisions a case runs on; each is compiled on its own.
#pragma once

#include "parity/case.hpp"
#include "parity/comparison.hpp"

namespace parity {

void run_on_cpu_float(const Case& reference, Comparison& comparison);
void run_on_cpu_double(const Case& reference, Comparison& comparison);
void run_on_reference_double(const Case& reference, Comparison& comparison);

struct Run {
    const char* name;
    Tolerance tolerance;
    void (*run)(const Case&, Comparison&);
};
inline constexpr Run runs[] = {
    {"cpu float", float_tolerance, run_on_cpu_float},
    {"cpu double", double_tolerance, run_on_cpu_double},
    {"reference double", double_tolerance, run_on_reference_double},
};

}  // namespace parity
