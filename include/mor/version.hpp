// SPDX-License-Identifier: Apache-2.0
//
// The version of the library. CMake reads it from here; it is written nowhere else.
#pragma once

#define MOR_VERSION_MAJOR 0
#define MOR_VERSION_MINOR 1
#define MOR_VERSION_PATCH 0
