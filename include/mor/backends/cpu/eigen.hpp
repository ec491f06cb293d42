// SPDX-License-Identifier: Apache-2.0
//
// The one place that includes Eigen. GCC 12 warns inside its own AVX-512 intrinsics (GCC bug
// 105593); the pragma keeps that out of the user's build.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Warray-bounds"
#endif

#include <Eigen/Core>
#if __has_include(<Eigen/ThreadPool>)
#include <Eigen/ThreadPool>  // Eigen 5
#else
#include <unsupported/Eigen/CXX11/ThreadPool>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
