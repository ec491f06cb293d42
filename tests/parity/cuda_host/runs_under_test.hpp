// SPDX-License-Identifier: Apache-2.0
//
// mor_parity on the kernels of the CUDA backend, run by the processor.
#pragma once

#include "parity/runs.hpp"

namespace parity {

inline constexpr Run cuda_host_float_activations{"cuda-host bfloat16, float activations",
                                                 {},
                                                 run_on_cuda_host_float_activations,
                                                 nullptr,
                                                 too_close_to_round};
inline constexpr Run cuda_host_bfloat16{"cuda-host bfloat16",      {},
                                        run_on_cuda_host_bfloat16, nullptr,
                                        too_close_for_activations, &cuda_host_float_activations};
inline constexpr Run runs[] = {
    {"cuda-host float", float_tolerance, run_on_cuda_host_float, &cuda_host_bfloat16},
    {"cuda-host double", double_tolerance, run_on_cuda_host_double},
};

}  // namespace parity
