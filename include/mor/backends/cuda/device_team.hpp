// SPDX-License-Identifier: Apache-2.0
//
// A block of threads of the GPU as the bodies of kernels see it, and the kernels that run bodies.
// For nvcc.
#pragma once

#include <mor/backends/cuda/device_tiles.hpp>
#include <mor/backends/cuda/system.hpp>
#include <mor/core/types.hpp>

#include <cuda_runtime.h>

namespace mor::cuda {

/// The threads of one block; see System. Sums add in an order that depends on the team's size only,
/// so that they repeat to the bit.
class DeviceTeam {
public:
    static constexpr int num_threads = 256;
    using TileProduct = detail::DeviceTileProduct<num_threads>;

    // Bodies are code for both sides. On the host nobody calls these.
#ifdef __CUDA_ARCH__
    [[nodiscard]] __device__ Index rank() const { return threadIdx.x; }
    __device__ void sync() const { __syncthreads(); }
    template <class T>
    [[nodiscard]] __device__ T sum(T x) const {
        return reduce(x, [](T a, T b) { return a + b; });
    }
    template <class T>
    [[nodiscard]] __device__ T max(T x) const {
        return reduce(x, [](T a, T b) { return a < b ? b : a; });
    }
    template <class T>
    [[nodiscard]] __device__ T* shared() const {
        extern __shared__ int4 team_memory[];  // of a type that is aligned to 16
        return reinterpret_cast<T*>(team_memory);
    }
#else
    [[nodiscard]] MOR_HOST_DEVICE Index rank() const { return 0; }
    MOR_HOST_DEVICE void sync() const {}
    template <class T>
    [[nodiscard]] MOR_HOST_DEVICE T sum(T x) const {
        return x;
    }
    template <class T>
    [[nodiscard]] MOR_HOST_DEVICE T max(T x) const {
        return x;
    }
    template <class T>
    [[nodiscard]] MOR_HOST_DEVICE T* shared() const {
        return nullptr;
    }
#endif
    [[nodiscard]] MOR_HOST_DEVICE constexpr Index size() const { return num_threads; }

#ifdef __CUDA_ARCH__
private:
    static constexpr int warp_size = 32;
    static constexpr int num_warps = num_threads / warp_size;

    /// Each warp reduces its threads' values, then every thread reduces the warps' in one order.
    template <class T, class Combine>
    [[nodiscard]] static __device__ T reduce(T x, Combine combine) {
        __shared__ T of_warps[num_warps];
        constexpr unsigned all = 0xFFFFFFFF;
        for (int distance = warp_size / 2; distance > 0; distance /= 2) {
            x = combine(x, __shfl_xor_sync(all, x, distance));
        }
        if (threadIdx.x % warp_size == 0) {
            of_warps[threadIdx.x / warp_size] = x;
        }
        __syncthreads();
        T result = of_warps[0];
        for (int warp = 1; warp < num_warps; ++warp) {
            result = combine(result, of_warps[warp]);
        }
        __syncthreads();  // nobody writes the next values before all have read these
        return result;
    }
#endif
};

namespace detail {

/// body(i) for every i in [0, n).
template <class Body>
__global__ void __launch_bounds__(DeviceTeam::num_threads) run_each(Index n, Body body) {
    const Index stride = Index{gridDim.x} * blockDim.x;
    for (Index i = Index{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) {
        body(i);
    }
}

/// body(team, i) for every i in [0, n), by the threads of one block each. A multiprocessor shall
/// have the registers of two blocks, so that one computes while the other waits.
template <class Body>
__global__ void __launch_bounds__(DeviceTeam::num_threads, 2) run_teams(Index n, Body body) {
    DeviceTeam team;
    for (Index i = blockIdx.x; i < n; i += gridDim.x) {
        body(team, i);
        team.sync();  // the next body writes what is shared
    }
}

/// Does nothing: that it exists for the device shows that this program was compiled for it.
template <class Nothing>
__global__ void probe() {}

}  // namespace detail
}  // namespace mor::cuda
