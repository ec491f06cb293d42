// SPDX-License-Identifier: Apache-2.0
//
// The doctest main of tests that need a GPU. Where there is none they have not passed: the program
// says so and ends with 77, which CTest is told to report as skipped. A GPU that cannot be used is
// a failure.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cuda_runtime_api.h>

int main(int argc, char** argv) {
    int driver = 0;
    int count = 0;
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    if (!has_driver || cudaGetDeviceCount(&count) == cudaErrorNoDevice) {
        std::printf("skipped: there is no %s\n", has_driver ? "GPU" : "NVIDIA driver");
        constexpr int skipped = 77;
        return skipped;
    }
    return doctest::Context{argc, argv}.run();
}
