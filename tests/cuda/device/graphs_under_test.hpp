// SPDX-License-Identifier: Apache-2.0
//
// A backend whose work becomes graphs, on the GPU, and one whose does not.
#pragma once

#include <mor/backends/cuda/cuda.hpp>

namespace backend_tests {

using PlainBackend = mor::Cuda<float>;
using GraphBackend = mor::Cuda<float>;

[[nodiscard]] inline GraphBackend make_graph_backend() {
    return GraphBackend{mor::cuda::DeviceSystem{{.graphs = true}}};
}

}  // namespace backend_tests
