// SPDX-License-Identifier: Apache-2.0
//
// The GPU's side of a command queue: pinned memory, events, graphs.
#pragma once

#include <mor/backends/cuda/command_queue.hpp>
#include <mor/backends/cuda/device_error.hpp>
#include <mor/backends/cuda/device_stream.hpp>

#include <cstddef>
#include <cuda_runtime_api.h>
#include <utility>

namespace mor::cuda::detail {

/// Calls throw DeviceError.
struct DeviceCommands {
    static void* allocate_staging(std::size_t bytes) {
        Device::get().make_current();
        void* p = nullptr;
        expect_success(cudaMallocHost(&p, bytes), "cudaMallocHost");
        ++Device::get().allocations();
        return p;
    }
    static void free_staging(void* p) noexcept { static_cast<void>(cudaFreeHost(p)); }
    static void upload(void* destination, const void* staged, std::size_t bytes) {
        expect_success(cudaMemcpyAsync(destination, staged, bytes, cudaMemcpyHostToDevice,
                                       Device::get().stream()),
                       "cudaMemcpyAsync");
    }

    class Event {
    public:
        Event() = default;
        Event(const Event&) = delete;
        Event& operator=(const Event&) = delete;
        ~Event() {
            if (event_ != nullptr) {
                static_cast<void>(cudaEventDestroy(event_));
            }
        }
        void record() {
            const cudaStream_t stream = Device::get().stream();
            if (event_ == nullptr) {
                expect_success(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming),
                               "cudaEventCreateWithFlags");
            }
            expect_success(cudaEventRecord(event_, stream), "cudaEventRecord");
        }
        void wait() { expect_success(cudaEventSynchronize(event_), "cudaEventSynchronize"); }

    private:
        cudaEvent_t event_ = nullptr;
    };

    class Graph {
    public:
        template <class HandOver>
        explicit Graph(const HandOver& hand_over) {
            const cudaGraph_t recorded = Device::get().record(hand_over);
            const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
            static_cast<void>(cudaGraphDestroy(recorded));
            expect_success(status, "cudaGraphInstantiate");
        }
        Graph(const Graph&) = delete;
        Graph& operator=(const Graph&) = delete;
        ~Graph() { static_cast<void>(cudaGraphExecDestroy(graph_)); }

        void launch() {
            expect_success(cudaGraphLaunch(graph_, Device::get().stream()), "cudaGraphLaunch");
        }

    private:
        cudaGraphExec_t graph_ = nullptr;
    };
};
static_assert(CommandDevice<DeviceCommands>);

struct ZeroBytes {
    void* p;
    std::size_t bytes;

    void operator()() const {
        expect_success(cudaMemsetAsync(p, 0, bytes, Device::get().stream()), "cudaMemsetAsync");
    }
};

/// Of the process, as the stream; never destroyed, as tensors may be static.
[[nodiscard]] inline CommandQueue<DeviceCommands>& command_queue() {
    static CommandQueue<DeviceCommands>& queue = *new CommandQueue<DeviceCommands>;
    return queue;
}

}  // namespace mor::cuda::detail
