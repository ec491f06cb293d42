// SPDX-License-Identifier: Apache-2.0
//
// The GPU's memory, from a pool in the order of the one stream that all work of the backend goes
// through.
#pragma once

#include <mor/backends/cuda/device_error.hpp>
#include <mor/core/space.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <limits>
#include <string>

namespace mor::cuda {

/// Bytes of the pool. "Used" is what the program holds; "reserved" what the pool holds of the GPU,
/// used or kept for the next that asks.
struct DeviceMemory {
    Index used = 0;
    Index most_used = 0;  // since the program started, or since reset_high_water()
    Index reserved = 0;
    Index most_reserved = 0;
    Index allocations = 0;  // how often the program asked the pool, from the start
};

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

    /// The stream; the calling thread's current device is then the stream's.
    [[nodiscard]] cudaStream_t stream() const {
        thread_local bool is_bound = false;
        if (!is_bound) {
            expect_success(cudaSetDevice(ordinal_), "cudaSetDevice");
            is_bound = true;
        }
        return stream_;
    }

    void wait() const { expect_success(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

    std::atomic<Index>& allocations() const { return allocations_; }

private:
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

/// Memory of the GPU. Everything happens in the order of one stream, also what several host threads
/// ask for: a thread that was handed memory by another need not wait for the GPU. Copies to and
/// from the host wait until they, and all that was asked for before, are done. Calls throw
/// DeviceError.
struct DeviceSpace {
    static void* allocate(std::size_t bytes) {
        const detail::Device& device = detail::Device::get();
        const cudaStream_t stream = device.stream();
        void* p = nullptr;
        // An empty tensor has an address too, as in host memory.
        const std::size_t wanted = std::max<std::size_t>(bytes, 1);
        const cudaError_t status = cudaMallocFromPoolAsync(&p, wanted, device.pool(), stream);
        if (status == cudaErrorMemoryAllocation) [[unlikely]] {
            std::size_t free = 0;
            std::size_t total = 0;
            static_cast<void>(cudaMemGetInfo(&free, &total));
            expect_success(status, "cudaMallocFromPoolAsync", ": ", bytes,
                           " bytes were asked for, of ", total, " on device ", device.ordinal(),
                           " (", device.name(), ") ", free, " are free");
        }
        expect_success(status, "cudaMallocFromPoolAsync");
        ++device.allocations();
        return p;
    }

    /// What was asked for before this call may still use the memory.
    static void deallocate(void* p) noexcept {
        try {
            // Without effect while the process ends, when the runtime is gone.
            static_cast<void>(cudaFreeAsync(p, detail::Device::get().stream()));
        } catch (const Error&) {  // the thread cannot use the device: nothing can be freed
        }
    }

    static void zero(void* p, std::size_t bytes) {
        if (bytes > 0) {
            expect_success(cudaMemsetAsync(p, 0, bytes, detail::Device::get().stream()),
                           "cudaMemsetAsync");
        }
    }

    static void copy_from_host(void* destination, const void* source, std::size_t bytes) {
        copy(destination, source, bytes, cudaMemcpyHostToDevice);
    }
    static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
        copy(destination, source, bytes, cudaMemcpyDeviceToHost);
    }

    /// Waits for all that was asked for. An error of a kernel shows here or at a copy.
    static void wait() { detail::Device::get().wait(); }

    [[nodiscard]] static DeviceMemory memory() {
        return {.used = attribute(cudaMemPoolAttrUsedMemCurrent),
                .most_used = attribute(cudaMemPoolAttrUsedMemHigh),
                .reserved = attribute(cudaMemPoolAttrReservedMemCurrent),
                .most_reserved = attribute(cudaMemPoolAttrReservedMemHigh),
                .allocations = detail::Device::get().allocations()};
    }

    /// Lets most_used and most_reserved start again from what is used and reserved now.
    static void reset_high_water() {
        for (const cudaMemPoolAttr name :
             {cudaMemPoolAttrUsedMemHigh, cudaMemPoolAttrReservedMemHigh}) {
            std::uint64_t zero = 0;  // the only value that CUDA takes
            expect_success(cudaMemPoolSetAttribute(detail::Device::get().pool(), name, &zero),
                           "cudaMemPoolSetAttribute");
        }
    }

    /// Gives memory that the program does not use back to the GPU, for other programs.
    static void release_unused() {
        wait();  // memory is unused when the stream has come to its deallocation
        expect_success(cudaMemPoolTrimTo(detail::Device::get().pool(), 0), "cudaMemPoolTrimTo");
    }

private:
    static void copy(void* destination, const void* source, std::size_t bytes,
                     cudaMemcpyKind direction) {
        if (bytes > 0) {
            const cudaStream_t stream = detail::Device::get().stream();
            expect_success(cudaMemcpyAsync(destination, source, bytes, direction, stream),
                           "cudaMemcpyAsync");
            expect_success(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
        }
    }

    [[nodiscard]] static Index attribute(cudaMemPoolAttr name) {
        std::uint64_t value = 0;
        expect_success(cudaMemPoolGetAttribute(detail::Device::get().pool(), name, &value),
                       "cudaMemPoolGetAttribute");
        return static_cast<Index>(value);
    }
};
static_assert(MemorySpace<DeviceSpace>);

}  // namespace mor::cuda
