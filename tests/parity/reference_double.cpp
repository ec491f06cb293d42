// SPDX-License-Identifier: Apache-2.0
#include "parity/run_case.hpp"
#include "parity/runs.hpp"
#include <mor/backends/reference/reference.hpp>

void parity::run_on_reference_double(const Case& reference, Comparison& comparison) {
    mor::Reference<double> backend;
    run_on(backend, reference, comparison);
}
