// SPDX-License-Identifier: Apache-2.0
//
// Sums that several kernels need, each in one fixed order.
#pragma once

#include <mor/backends/cuda/device.hpp>

#include <algorithm>

namespace mor::cuda::detail {

/// sum[0] += factor * the sum of terms [n], by one team.
template <class B>
void add_sum(Context<B>& context, View<const double, 1, typename B::Space> terms, double factor,
             SumView<B> sum) {
    context.backend().system().for_each_team(
        1, [=] MOR_KERNEL(typename B::System::Team & team, Index /*team_index*/) {
            double of_thread = 0;
            for (Index i = team.rank(); i < terms.size(); i += team.size()) {
                of_thread += in_kernel(terms)[i];
            }
            const double of_team = team.sum(of_thread);
            if (team.rank() == 0) {
                in_kernel(sum)[0] += factor * of_team;
            }
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
    system.for_each_team(blocks, [=] MOR_KERNEL(typename B::System::Team & team, Index block) {
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
    system.for_each(out.size(), [=] MOR_KERNEL(Index j) {
        T sum = in_kernel(out)[j];
        for (Index block = 0; block < blocks; ++block) {
            sum += in_kernel(sums)(block, j);
        }
        in_kernel(out)[j] = sum;
    });
}

}  // namespace mor::cuda::detail
