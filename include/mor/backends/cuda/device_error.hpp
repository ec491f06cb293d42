// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA runtime and cuBLASLt answer, as exceptions that name the call.
#pragma once

#include <mor/core/error.hpp>

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <string_view>

namespace mor {

/// The GPU, its driver or one of its libraries did not do what was asked for. The message names the
/// call. After a kernel that failed while it ran, every later call of the process fails too.
class DeviceError : public Error {
public:
    using Error::Error;
};

namespace cuda {

/// Throws DeviceError unless the call of the CUDA runtime succeeded: "mor: CALL: ANSWER
/// (NAME)DETAIL".
template <class... Parts>
void expect_success(cudaError_t status, std::string_view call, const Parts&... detail) {
    if (status != cudaSuccess) [[unlikely]] {
        // The runtime keeps an error for whoever asks next, who would take it for his own.
        static_cast<void>(cudaGetLastError());
        fail<DeviceError>("mor: ", call, ": ", cudaGetErrorString(status), " (",
                          cudaGetErrorName(status), ")", detail...);
    }
}

/// The same for calls of cuBLASLt.
template <class... Parts>
void expect_success(cublasStatus_t status, std::string_view call, const Parts&... detail) {
    if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]] {
        fail<DeviceError>("mor: ", call, ": ", cublasLtGetStatusString(status), " (",
                          cublasLtGetStatusName(status), ")", detail...);
    }
}

}  // namespace cuda
}  // namespace mor
