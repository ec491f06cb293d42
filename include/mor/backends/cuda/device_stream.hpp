// SPDX-License-Identifier: Apache-2.0
//
// The GPU of the process: its memory pool, and the one stream that all work of the backend goes
// through.
#pragma once

#include <mor/backends/cuda/device_error.hpp>
#include <mor/core/types.hpp>

#include <atomic>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <limits>
#include <string>
#include <utility>

namespace mor::cuda {

namespace detail {

/// Divides a version like 13020 into "13.2".
[[nodiscard]] inline std::string version_text(int version) {
    return std::to_string(version / 1'000) + "." + std::to_string(version % 1'000 / 10);
}

/// A driver is required, one that knows the runtime's major version. Both versions are as the
/// runtime writes them, 0 where there is no driver. Throws DeviceError.
inline void expect_driver(int driver, int runtime) {
    check<DeviceError>(
        driver != 0, "mor: cudaDriverGetVersion: there is no NVIDIA driver, so no GPU can be used");
    check<DeviceError>(
        driver / 1'000 >= runtime / 1'000,
        "mor: cudaDriverGetVersion: the NVIDIA driver is for CUDA ", version_text(driver),
        ", too old for this program, which was built with CUDA ", version_text(runtime));
}

/// What the process uses of its GPU: the device that is CUDA's current one at the first use, one
/// stream, and a pool that gives no memory back. Never destroyed, as tensors may be static.
class Device {
public:
    /// Throws DeviceError if there is no driver, no GPU, or one without memory pools.
    [[nodiscard]] static const Device& get() {
        static const Device& device = *new Device;
        return device;
    }

    [[nodiscard]] int ordinal() const { return ordinal_; }
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] cudaMemPool_t pool() const { return pool_; }

    /// Makes it the calling thread's current device, which calls without a stream refer to. Throws
    /// DeviceError.
    void make_current() const {
        thread_local bool is_current = false;
        if (!is_current) {
            expect_success(cudaSetDevice(ordinal_), "cudaSetDevice");
            is_current = true;
        }
    }

    /// Where work of the calling thread goes: the stream, or what records it. The device is then
    /// the thread's current one.
    [[nodiscard]] cudaStream_t stream() const {
        make_current();
        return is_recording() ? recording() : stream_;
    }
    [[nodiscard]] static bool is_recording() { return recording() != nullptr; }

    /// Calls hand_over() and returns what it handed to stream(), as a graph; nothing runs. Throws
    /// DeviceError.
    template <class HandOver>
    [[nodiscard]] cudaGraph_t record(const HandOver& hand_over) const {
        make_current();
        cudaStream_t recorder = nullptr;
        expect_success(cudaStreamCreateWithFlags(&recorder, cudaStreamNonBlocking),
                       "cudaStreamCreateWithFlags");
        const RecordingTo guard{recorder};
        expect_success(cudaStreamBeginCapture(recorder, cudaStreamCaptureModeThreadLocal),
                       "cudaStreamBeginCapture");
        try {
            hand_over();
        } catch (...) {
            cudaGraph_t incomplete = nullptr;
            static_cast<void>(cudaStreamEndCapture(recorder, &incomplete));
            if (incomplete != nullptr) {
                static_cast<void>(cudaGraphDestroy(incomplete));
            }
            static_cast<void>(cudaGetLastError());  // kept for whoever asks next
            throw;
        }
        cudaGraph_t graph = nullptr;
        expect_success(cudaStreamEndCapture(recorder, &graph), "cudaStreamEndCapture");
        return graph;
    }

    void wait() const { expect_success(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

    std::atomic<Index>& allocations() const { return allocations_; }

private:
    /// Null, or where work of this thread goes instead of the stream.
    [[nodiscard]] static cudaStream_t& recording() {
        thread_local cudaStream_t recorder = nullptr;
        return recorder;
    }
    struct RecordingTo {
        explicit RecordingTo(cudaStream_t recorder) { recording() = recorder; }
        RecordingTo(const RecordingTo&) = delete;
        RecordingTo& operator=(const RecordingTo&) = delete;
        ~RecordingTo() {
            static_cast<void>(cudaStreamDestroy(std::exchange(recording(), nullptr)));
        }
    };

    Device() {
        int driver = 0;
        int runtime = 0;
        expect_success(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
        expect_success(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
        expect_driver(driver, runtime);
        int count = 0;
        expect_success(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
        check<DeviceError>(count > 0, "mor: cudaGetDeviceCount: there is no GPU");
        expect_success(cudaGetDevice(&ordinal_), "cudaGetDevice");
        cudaDeviceProp properties{};
        expect_success(cudaGetDeviceProperties(&properties, ordinal_), "cudaGetDeviceProperties");
        name_ = properties.name;
        int has_pools = 0;
        expect_success(
            cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, ordinal_),
            "cudaDeviceGetAttribute");
        check<DeviceError>(has_pools != 0, "mor: cudaDeviceGetAttribute: device ", ordinal_, " (",
                           name_, ") has no memory pools");
        expect_success(cudaSetDevice(ordinal_), "cudaSetDevice");

        cudaMemPoolProps wanted{};
        wanted.allocType = cudaMemAllocationTypePinned;
        wanted.location.type = cudaMemLocationTypeDevice;
        wanted.location.id = ordinal_;
        expect_success(cudaMemPoolCreate(&pool_, &wanted), "cudaMemPoolCreate");
        auto threshold = std::numeric_limits<std::uint64_t>::max();
        expect_success(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &threshold),
                       "cudaMemPoolSetAttribute");
        expect_success(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                       "cudaStreamCreateWithFlags");
    }

    int ordinal_ = 0;
    std::string name_;
    cudaMemPool_t pool_ = nullptr;
    cudaStream_t stream_ = nullptr;
    mutable std::atomic<Index> allocations_ = 0;
};

}  // namespace detail

}  // namespace mor::cuda
