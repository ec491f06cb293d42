// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/cpu/cpu.hpp>

void parity::run_on_cpu_bfloat16(const Case& reference, Comparison& comparison) {
    mor::Cpu<float, mor::BFloat16> backend{{.threads = 1}};
    run_on(backend, reference, comparison);
}
