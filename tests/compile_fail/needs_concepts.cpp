// SPDX-License-Identifier: Apache-2.0
//
// An older standard is refused in one sentence.
// flags: -std=c++17
// expected-error: error: .*mor: needs C\+\+20 with concepts
#include <mor/config.hpp>

int main() {}
