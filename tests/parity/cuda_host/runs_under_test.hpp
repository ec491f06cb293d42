// SPDX-License-Identifier: Apache-2.0
//
// mor_parity on the kernels of the CUDA backend, run by the processor.
#pragma once

#include "parity/runs.hpp"

namespace parity {

inline constexpr Run runs[] = {
    {"cuda-host float", float_tolerance, run_on_cuda_host_float},
    {"cuda-host double", double_tolerance, run_on_cuda_host_double},
};

}  // namespace parity
