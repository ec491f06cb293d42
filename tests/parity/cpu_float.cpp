// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/cpu/cpu.hpp>

void parity::run_on_cpu_float(const Case& reference, Comparison& comparison) {
    mor::Cpu<float> backend{{.threads = 1}};
    run_on(backend, reference, comparison);
}
