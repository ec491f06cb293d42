// SPDX-License-Identifier: Apache-2.0
//
// A program that was compiled without the processor's vector instructions runs several times slower
// than it could, and nothing else would tell.
#pragma once

#include <cstdio>

namespace mor::cpu::detail {

/// Whether this processor has vector instructions that the program was compiled without.
[[nodiscard]] inline bool lacks_vector_instructions() {
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__AVX2__)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return false;
#endif
}

/// Says so on the standard error stream, the first time that it is called.
inline void warn_without_vector_instructions() {
    [[maybe_unused]] static const bool once = [] {
        if (lacks_vector_instructions()) {
            std::fputs(
                "mor: WARNING: compiled without this processor's vector instructions, so that "
                "products take several times as long. Compile with -O3 -march=native, or -mavx2 "
                "-mfma; to silence this: mor::Cpu<float>{{.warns = false}}\n",
                stderr);
        }
        return true;
    }();
}

}  // namespace mor::cpu::detail
