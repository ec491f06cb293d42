// SPDX-License-Identifier: Apache-2.0
//
// A program that was compiled without the processor's vector instructions runs several times slower
// than it could, and nothing else would tell.
#pragma once

#include <cstdio>

namespace mor::cpu::detail {

/// The compiler's flag for vector instructions that this processor has and the program was compiled
/// without; null if there are none.
[[nodiscard]] inline const char* missing_vector_flag() {
#if defined(__GNUC__) && defined(__x86_64__)
#ifndef __AVX2__
    if (__builtin_cpu_supports("avx2") != 0) {
        return "-mavx2 -mfma";
    }
#endif
#ifndef __FMA__
    if (__builtin_cpu_supports("fma") != 0) {
        return "-mfma";
    }
#endif
#ifndef __AVX512F__
    if (__builtin_cpu_supports("avx512f") != 0) {
        return "-mavx512f -mavx512dq";
    }
#endif
#endif
    return nullptr;
}

/// Says so on the standard error stream, the first time that it is called.
inline void warn_without_vector_instructions() {
    [[maybe_unused]] static const bool once = [] {
        if (const char* const flag = missing_vector_flag(); flag != nullptr) {
            std::fprintf(
                stderr,
                "mor: WARNING: compiled without this processor's vector instructions, so that "
                "products take a multiple of the time. Compile with -O3 -march=native, or %s; to "
                "silence this: mor::Cpu<float>{{.warns = false}}\n",
                flag);
        }
        return true;
    }();
}

}  // namespace mor::cpu::detail
