// SPDX-License-Identifier: Apache-2.0
//
// Sums that several kernels need, each in one fixed order.
#pragma once

#include <mor/backends/cuda/arena_allocator.hpp>
#include <mor/backends/cuda/device.hpp>

#include <thrust/reduce.h>

#include <algorithm>

namespace mor::cuda::detail {

/// The sum of x [n], on the host.
template <class B>
[[nodiscard]] double sum_on_host(Context<B>& context, View<double, 1, typename B::Space> x) {
    ArenaAllocator allocator{context.arena()};
    return context.backend().system().run_algorithm(
        "thrust::reduce", allocator, [&](const auto& policy) {
            return thrust::reduce(policy, x.data(), x.data() + x.size(), 0.0);
        });
}

/// out[j] += the sum over rows i of term(i, j); out [columns]. Rows are added in blocks, then the
/// blocks: neighbouring threads read neighbouring columns. `term` is called by kernels.
template <class B, class Term>
void add_column_sums(Context<B>& context, Index rows, const Term& term, VectorView<B> out) {
    using T = typename B::Element;
    constexpr Index block_rows = 64;
    const auto& system = context.backend().system();
    const typename Arena<typename B::Space>::Scope scope{context.arena()};
    const Index blocks = (rows + block_rows - 1) / block_rows;
    const MatrixView<B> sums = context.matrix(blocks, out.size());
    system.for_each_team(blocks, [=] MOR_HOST_DEVICE(typename B::System::Team & team, Index block) {
        const Index first = block * block_rows;
        const Index last = std::min(rows, first + block_rows);
        for (Index j = team.rank(); j < sums.columns(); j += team.size()) {
            T sum{0};
            for (Index i = first; i < last; ++i) {
                sum += term(i, j);
            }
            in_kernel(sums)(block, j) = sum;
        }
    });
    system.for_each(out.size(), [=] MOR_HOST_DEVICE(Index j) {
        T sum = in_kernel(out)[j];
        for (Index block = 0; block < blocks; ++block) {
            sum += in_kernel(sums)(block, j);
        }
        in_kernel(out)[j] = sum;
    });
}

}  // namespace mor::cuda::detail
