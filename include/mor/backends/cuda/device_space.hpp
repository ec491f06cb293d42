// SPDX-License-Identifier: Apache-2.0
//
// The GPU's memory, from a pool in the order in which the backend works.
#pragma once

#include <mor/backends/cuda/device_commands.hpp>
#include <mor/backends/cuda/device_error.hpp>
#include <mor/backends/cuda/device_stream.hpp>
#include <mor/core/space.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

namespace mor::cuda {

/// Bytes of the pool. "Used" is what the program holds; "reserved" what the pool holds of the GPU,
/// used or kept for the next that asks.
struct DeviceMemory {
    Index used = 0;
    Index most_used = 0;  // since the program started, or since reset_high_water()
    Index reserved = 0;
    Index most_reserved = 0;
    Index allocations = 0;  // how often the program took some, of the host's for uploads too
};

/// Memory of the GPU. Everything happens in the order of one stream, also what several host threads
/// ask for: a thread that was handed memory by another need not wait for the GPU. Copies to the
/// host, and from it those of more than a MiB, wait until they, and all that was asked for before,
/// are done; other copies from the host have read it when they return. Calls throw DeviceError.
struct DeviceSpace {
    static void* allocate(std::size_t bytes) {
        const detail::Device& device = detail::Device::get();
        void* p = nullptr;
        cudaError_t status = try_allocate(bytes, p);
        if (status == cudaErrorMemoryAllocation && !device.is_recording()) [[unlikely]] {
            // What is missing may be memory whose deallocation the GPU has not come to yet, or that
            // the pool keeps in smaller pieces.
            static_cast<void>(cudaGetLastError());
            device.wait();
            expect_success(cudaMemPoolTrimTo(device.pool(), 0), "cudaMemPoolTrimTo");
            status = try_allocate(bytes, p);
        }
        if (status != cudaSuccess) [[unlikely]] {
            std::size_t free = 0;
            std::size_t total = 0;
            static_cast<void>(cudaMemGetInfo(&free, &total));
            expect_success(status, "cudaMallocFromPoolAsync", ": ", bytes,
                           " bytes were asked for, of ", total, " on device ", device.ordinal(),
                           " (", device.name(), ") ", free, " are free");
        }
        ++device.allocations();
        return p;
    }

    /// What was asked for before this call may still use the memory.
    static void deallocate(void* p) noexcept {
        detail::command_queue().flush_or_keep_failure();
        try {
            // Without effect while the process ends, when the runtime is gone.
            if (cudaFreeAsync(p, detail::Device::get().stream()) != cudaSuccess) {
                static_cast<void>(cudaGetLastError());  // kept for whoever asks next
            }
        } catch (const Error&) {  // the thread cannot use the device: nothing can be freed
        }
    }

    static void zero(void* p, std::size_t bytes) {
        if (bytes > 0) {
            detail::command_queue().add(detail::ZeroBytes{p, bytes});
        }
    }

    static void copy_from_host(void* destination, const void* source, std::size_t bytes) {
        if (bytes == 0) {
            return;
        }
        if (bytes <= detail::StagingRing<detail::DeviceCommands>::part_bytes) {
            detail::command_queue().upload(destination, source, bytes);
        } else {
            copy(destination, source, bytes, cudaMemcpyHostToDevice);
        }
    }
    static void copy_to_host(void* destination, const void* source, std::size_t bytes) {
        if (bytes > 0) {
            copy(destination, source, bytes, cudaMemcpyDeviceToHost);
        }
    }

    /// Waits for all that was asked for. An error of a kernel shows here or at a copy to the host.
    static void wait() {
        detail::command_queue().flush();
        detail::Device::get().wait();
    }

    /// Lists of commands that became graphs; see DeviceSystem::Options::graphs.
    [[nodiscard]] static CommandCounts commands() { return detail::command_queue().counts(); }

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
    [[nodiscard]] static cudaError_t try_allocate(std::size_t bytes, void*& p) {
        const detail::Device& device = detail::Device::get();
        // An empty tensor has an address too, as in host memory.
        return cudaMallocFromPoolAsync(&p, std::max<std::size_t>(bytes, 1), device.pool(),
                                       device.stream());
    }

    static void copy(void* destination, const void* source, std::size_t bytes,
                     cudaMemcpyKind direction) {
        detail::command_queue().flush();
        const cudaStream_t stream = detail::Device::get().stream();
        expect_success(cudaMemcpyAsync(destination, source, bytes, direction, stream),
                       "cudaMemcpyAsync");
        expect_success(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
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
