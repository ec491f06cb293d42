// SPDX-License-Identifier: Apache-2.0
//
// A system runs the kernels of the CUDA backend: DeviceSystem on the GPU, HostSystem on the
// processor, so that all but the device's own code is tested where there is no GPU.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/core/space.hpp>
#include <mor/core/types.hpp>
#include <mor/core/view.hpp>

#include <concepts>
#include <cstddef>
#include <string_view>

// What a kernel calls is compiled for both sides by nvcc, and is ordinary code for others. A lambda
// that is a kernel is for the device alone: for both sides, nvcc would not let it be copied as
// bytes.
#ifdef __CUDACC__
#define MOR_HOST_DEVICE __host__ __device__
#define MOR_KERNEL __device__
#else
#define MOR_HOST_DEVICE
#define MOR_KERNEL
#endif

namespace mor::cuda {

/// Rows by token, for a system's sort: all [n], `sorted_tokens` and `sorted_rows` to be written.
template <MemorySpace Space>
struct RowsByToken {
    View<const TokenId, 1, Space> tokens;
    View<const Index, 1, Space> rows;
    View<TokenId, 1, Space> sorted_tokens;
    View<Index, 1, Space> sorted_rows;
};

namespace detail {
struct AnyBody {
    MOR_HOST_DEVICE void operator()(Index /*i*/) const {}
};
template <class Team>
struct AnyTeamBody {
    MOR_HOST_DEVICE void operator()(Team& /*team*/, Index /*i*/) const {}
};
struct AnyAlgorithm {
    int operator()(const auto& /*policy*/) const { return 0; }
};
struct AnyAllocator {
    using value_type = char;
    char* allocate(std::ptrdiff_t bytes);
    void deallocate(char* p, std::size_t bytes);
};
}  // namespace detail

/// Runs bodies, copyable as bytes, in the order they were handed over, one after another, perhaps
/// later than the call returns; what `Space` copies to the host waits for all of them.
///
/// `for_each(n, body)` calls body(i) for every i in [0, n) in any order. `for_each_team(n,
/// shared_bytes, body)` calls body(team, i) by every thread of a team, a `S::Team`: team.rank() in
/// [0, team.size()), team.sync(), team.sum(x) and team.max(x) over the team, the same for every
/// thread; all threads of a team call these equally often. team.template shared<T>() is the address
/// of `shared_bytes` bytes, aligned to 16, uninitialised, that the threads of a team share while
/// the body runs; without that argument there are none. A team may run several bodies one after
/// another. `run_algorithm(call, allocator, algorithm)` returns algorithm(policy), where `policy`
/// is what Thrust takes; temporary memory comes from the allocator of bytes, and what fails is a
/// mor::Error that names the call. `sort(rows_by_token, memory)` sorts ascending and stably, with
/// `sort_bytes(n)` bytes of temporary memory. `product` multiplies matrices; see product.hpp.
template <class S>
concept System = requires(
    const S& system, Index n, std::size_t shared_bytes, detail::AnyAllocator& allocator,
    Factor<float, typename S::Space> factor, View<float, 2, typename S::Space> matrix,
    RowsByToken<typename S::Space> rows_by_token, View<std::byte, 1, typename S::Space> memory) {
    requires MemorySpace<typename S::Space>;
    typename S::Team;
    { S::name } -> std::convertible_to<std::string_view>;
    system.for_each(n, detail::AnyBody{});
    system.for_each_team(n, detail::AnyTeamBody<typename S::Team>{});
    system.for_each_team(n, shared_bytes, detail::AnyTeamBody<typename S::Team>{});
    system.run_algorithm(std::string_view{}, allocator, detail::AnyAlgorithm{});
    { system.sort_bytes(n) } -> std::same_as<Index>;
    system.sort(rows_by_token, memory);
    system.product(factor, factor, matrix, Write::overwrite);
};

/// A view as the kernels of its system see it, whose elements can be read and written. For bodies
/// only.
template <class T, int Rank, MemorySpace Space>
[[nodiscard]] MOR_HOST_DEVICE constexpr View<T, Rank> in_kernel(View<T, Rank, Space> view) {
    return {view.data(), view.extents()};
}

}  // namespace mor::cuda
