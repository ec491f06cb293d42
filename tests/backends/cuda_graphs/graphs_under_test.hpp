// SPDX-License-Identifier: Apache-2.0
//
// A backend whose work becomes graphs, on the processor, and one whose does not.
#pragma once

#include "queued_system.hpp"
#include <mor/backends/cuda/cuda_host.hpp>

namespace backend_tests {

using PlainBackend = mor::Cuda<float, mor::cuda::HostSystem>;
using GraphBackend = mor::Cuda<float, QueuedSystem>;

[[nodiscard]] inline GraphBackend make_graph_backend() { return {}; }

}  // namespace backend_tests
