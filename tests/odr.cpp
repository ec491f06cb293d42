// SPDX-License-Identifier: Apache-2.0
//
// Linked into every test: a function in a header that is not inline is then defined twice.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>
