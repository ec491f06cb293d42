// SPDX-License-Identifier: Apache-2.0
//
// Stops a compiler that cannot compile the library with one sentence instead of a thousand errors.
#pragma once

#if !defined(__cpp_concepts) || __cpp_concepts < 201907L
#error "mor: needs C++20 with concepts: g++ 12, clang++ 16 or newer, and -std=c++20 or later"
#endif
