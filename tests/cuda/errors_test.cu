// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA backend says where it cannot work. Runs without a GPU, and with one hides it.
#include <mor/backends/cuda/cuda.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

using mor::ConfigError;
using mor::DeviceError;
using mor::cuda::BFloat16Products;
using mor::cuda::DeviceSpace;
using mor::cuda::DeviceSystem;
using mor::cuda::expect_success;

namespace {

/// The message of what `body` throws.
template <class Body>
std::string message_of(const Body& body) {
    try {
        body();
    } catch (const DeviceError& error) {
        return error.what();
    }
    return "nothing";
}

/// Whether it says where there is no GPU to be used.
bool names_the_lack(const std::string& message) {
    return message ==
               "mor: cudaDriverGetVersion: there is no NVIDIA driver, so no GPU can be used" ||
           message ==
               "mor: cudaGetDeviceCount: no CUDA-capable device is detected "
               "(cudaErrorNoDevice)";
}

}  // namespace

TEST_CASE("without a GPU a system says so before any work") {
    REQUIRE(setenv("CUDA_VISIBLE_DEVICES", "-1", 1) == 0);  // the first CUDA call reads it
    const std::string message = message_of([] { const mor::Cuda<float> backend; });
    CAPTURE(message);
    CHECK(names_the_lack(message));
    CHECK(names_the_lack(message_of([] { DeviceSystem{{.memory_bytes = 1}}; })));
}

TEST_CASE("without a GPU there is no memory, but memory can be given back") {
    REQUIRE(setenv("CUDA_VISIBLE_DEVICES", "-1", 1) == 0);
    CHECK(names_the_lack(message_of([] { const mor::Tensor<float, 1, DeviceSpace> tensor{{3}}; })));
    CHECK(names_the_lack(message_of([] { DeviceSpace::wait(); })));
    CHECK(names_the_lack(message_of([] { static_cast<void>(DeviceSpace::memory()); })));
    DeviceSpace::deallocate(nullptr);
}

TEST_CASE("impossible options are refused") {
    CHECK_THROWS_WITH_AS(DeviceSystem{{.memory_bytes = -1}},
                         "mor::cuda::DeviceSystem: memory_bytes is -1, expected 0 or more",
                         ConfigError);
}

TEST_CASE("errors name the call and what it answered") {
    CHECK_NOTHROW(expect_success(cudaSuccess, "cudaMemcpyAsync"));
    CHECK_THROWS_WITH_AS(expect_success(cudaErrorInvalidValue, "cudaMemcpyAsync"),
                         "mor: cudaMemcpyAsync: invalid argument (cudaErrorInvalidValue)",
                         DeviceError);
    CHECK_THROWS_WITH_AS(
        expect_success(cudaErrorMemoryAllocation, "cudaMallocFromPoolAsync", ": ", 5,
                       " bytes were asked for"),
        "mor: cudaMallocFromPoolAsync: out of memory (cudaErrorMemoryAllocation): 5 bytes were "
        "asked for",
        DeviceError);
    CHECK_NOTHROW(expect_success(CUBLAS_STATUS_SUCCESS, "cublasLtMatmul"));
    const std::string message =
        message_of([] { expect_success(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul"); });
    CAPTURE(message);
    CHECK(message.starts_with("mor: cublasLtMatmul: "));
    CHECK(message.ends_with("(CUBLAS_STATUS_NOT_SUPPORTED)"));
}

TEST_CASE("a driver is refused if it is older than the runtime's major version") {
    const auto expect = [](int driver, int runtime) {
        return message_of([&] { mor::cuda::detail::expect_driver(driver, runtime); });
    };
    CHECK(expect(13000, 13000) == "nothing");
    CHECK(expect(13000, 13020) == "nothing");  // NVIDIA promises that minor versions work together
    CHECK(expect(13010, 12040) == "nothing");
    CHECK(expect(12090, 13000) ==
          "mor: cudaDriverGetVersion: the NVIDIA driver is for CUDA 12.9, too old for this "
          "program, which was built with CUDA 13.0");
    CHECK(names_the_lack(expect(0, 13000)));
}

TEST_CASE("a system with bfloat16 products has a name of its own") {
    CHECK(mor::Cuda<float>::name == "cuda");
    CHECK(mor::Cuda<float, BFloat16Products<DeviceSystem>>::name == "cuda with bfloat16 products");
}
