// SPDX-License-Identifier: Apache-2.0
//
// mor_parity on the GPU.
#pragma once

#include "parity/runs.hpp"

namespace parity {

void run_on_cuda_float(const Case& reference, Comparison& comparison);
void run_on_cuda_bfloat16(const Case& reference, Comparison& comparison);
void run_on_cuda_float_activations(const Case& reference, Comparison& comparison);
void run_on_cuda_double(const Case& reference, Comparison& comparison);

inline constexpr Run cuda_float_activations{"cuda bfloat16, float activations",
                                            {},
                                            run_on_cuda_float_activations,
                                            nullptr,
                                            too_close_to_round};
inline constexpr Run cuda_bfloat16{"cuda bfloat16",           {},
                                   run_on_cuda_bfloat16,      nullptr,
                                   too_close_for_activations, &cuda_float_activations};
inline constexpr Run runs[] = {
    {"cuda float", float_tolerance, run_on_cuda_float, &cuda_bfloat16},
    {"cuda double", double_tolerance, run_on_cuda_double},
};

}  // namespace parity
