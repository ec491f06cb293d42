// SPDX-License-Identifier: Apache-2.0
//
// The kernels of the CUDA backend on the processor, one thread a team. Its memory is a space of its
// own: code that would read a GPU's memory directly does not compile here either.
#pragma once

#include <mor/backends/cuda/system.hpp>

#include <thrust/copy.h>
#include <thrust/sort.h>
#include <thrust/system/cpp/execution_policy.h>

#include <cstddef>
#include <vector>

namespace mor::cuda {

/// Over memory of the processor that is of the type S.
template <MemorySpace S>
struct ProcessorSystem {
    using Space = S;

    class Team {
    public:
        explicit Team(std::byte* shared) : shared_{shared} {}

        [[nodiscard]] MOR_HOST_DEVICE Index rank() const { return 0; }
        [[nodiscard]] MOR_HOST_DEVICE Index size() const { return 1; }
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
            return static_cast<T*>(static_cast<void*>(shared_));
        }

    private:
        std::byte* shared_;
    };

    template <class Body>
    void for_each(Index n, const Body& body) const {
        for (Index i = 0; i < n; ++i) {
            body(i);
        }
    }

    template <class Body>
    void for_each_team(Index n, const Body& body) const {
        for_each_team(n, 0, body);
    }
    template <class Body>
    void for_each_team(Index n, std::size_t shared_bytes, const Body& body) const {
        std::vector<std::byte> shared(shared_bytes);
        Team team{shared.data()};
        for (Index i = 0; i < n; ++i) {
            body(team, i);
        }
    }

    template <class Allocator, class Algorithm>
    auto run_algorithm(std::string_view /*call*/, Allocator& allocator,
                       const Algorithm& algorithm) const {
        return algorithm(thrust::cpp::par(allocator));
    }

    [[nodiscard]] Index sort_bytes(Index /*n*/) const { return 0; }
    void sort(const RowsByToken<Space>& by_token, View<std::byte, 1, Space> /*memory*/) const {
        const Index n = by_token.tokens.size();
        thrust::copy_n(thrust::cpp::par, by_token.tokens.data(), n, by_token.sorted_tokens.data());
        thrust::copy_n(thrust::cpp::par, by_token.rows.data(), n, by_token.sorted_rows.data());
        TokenId* const tokens = by_token.sorted_tokens.data();
        thrust::stable_sort_by_key(thrust::cpp::par, tokens, tokens + n,
                                   by_token.sorted_rows.data());
    }

    /// See product.hpp. Sums in double.
    template <class T>
    void product(const Factor<T, Space>& a, const Factor<T, Space>& b, View<T, 2, Space> c,
                 Write write) const {
        const bool a_is_stored = a.reading == Reading::as_stored;
        const bool b_is_stored = b.reading == Reading::as_stored;
        const View<const T, 2> left = in_kernel(a.matrix);
        const View<const T, 2> right = in_kernel(b.matrix);
        const View<T, 2> out = in_kernel(c);
        for (Index i = 0; i < c.rows(); ++i) {
            for (Index j = 0; j < c.columns(); ++j) {
                double sum = write == Write::accumulate ? double{out(i, j)} : 0.0;
                for (Index k = 0; k < a.columns(); ++k) {
                    sum += double{a_is_stored ? left(i, k) : left(k, i)} *
                           double{b_is_stored ? right(k, j) : right(j, k)};
                }
                out(i, j) = static_cast<T>(sum);
            }
        }
    }
};

namespace detail {
struct ProcessorSpace : HostSpace {};
}  // namespace detail

struct HostSystem : ProcessorSystem<detail::ProcessorSpace> {
    static constexpr std::string_view name = "cuda-host";
};
static_assert(System<HostSystem>);

}  // namespace mor::cuda
