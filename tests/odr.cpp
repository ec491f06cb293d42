// SPDX-License-Identifier: Apache-2.0
//
// Every header that needs neither Thrust nor mor::instances. Linked into every test: a function in
// a header that is not inline is then defined twice.
#include <mor/backends/reference/reference.hpp>
#include <mor/checkpoint.hpp>
#include <mor/fwd.hpp>
#include <mor/mor.hpp>
#include <mor/testing/backend_conformance.hpp>
#include <mor/testing/conformance.hpp>
#include <mor/testing/gradient_check.hpp>
#include <mor/testing/random_fill.hpp>
#include <mor/testing/scheduling_conformance.hpp>
#include <mor/testing/tolerance.hpp>
