// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

benchmarks::Result benchmarks::measure_float(const Case& which, const Settings& settings) {
    return measure<mor::Cuda<float, SystemUnderTest>>(which, settings);
}
