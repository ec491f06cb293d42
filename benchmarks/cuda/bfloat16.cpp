// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

benchmarks::Result benchmarks::measure_bfloat16(const Case& which, const Settings& settings) {
    return measure<mor::Cuda<float, mor::cuda::BFloat16Products<SystemUnderTest>>>(which, settings);
}
