// SPDX-License-Identifier: Apache-2.0
//
// Cuda<T, cuda::HostSystem>: the kernels of the CUDA backend on the processor.
#pragma once

#include <mor/backends/cuda/host_system.hpp>
#include <mor/backends/cuda/kernels.hpp>
