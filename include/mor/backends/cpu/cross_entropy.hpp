// SPDX-License-Identifier: Apache-2.0
//
// Cross-entropy of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/ops/cross_entropy.hpp>

#include <cmath>

namespace mor {

template <class T, class Factor>
struct Kernel<op::CrossEntropy, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> logits,
                    View<const TokenId, 1> targets, double scale, View<T, 2> dlogits, double factor,
                    View<double, 1> sum) {
        using namespace cpu::detail;
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto losses = context.arena().template make<double, 1>({logits.rows()});
        const auto grain = grain_rows(logits.columns());
        context.backend().parallel_for(logits.rows(), grain, [&](Index first, Index last) {
            for (Index i = first; i < last; ++i) {
                losses[i] = row_loss(logits.row(i), targets[i], scale,
                                     dlogits.empty() ? View<T, 1>{} : dlogits.row(i));
            }
        });
        double loss = 0;
        for (Index i = 0; i < losses.size(); ++i) {
            loss += losses[i];
        }
        sum[0] += factor * loss;
    }

private:
    static double row_loss(View<const T, 1> logits, TokenId target, double scale,
                           View<T, 1> dlogits) {
        using namespace cpu::detail;
        if (target < 0) {
            array(dlogits).setZero();
            return 0;
        }
        const auto row = array(logits);
        const T target_logit = logits[target];
        const T largest = row.maxCoeff();
        if (dlogits.empty()) {
            return std::log(static_cast<double>((row - largest).exp().sum())) +
                   static_cast<double>(largest - target_logit);
        }
        auto gradient = array(dlogits);
        gradient = (row - largest).exp();
        const T sum = gradient.sum();
        gradient *= static_cast<T>(scale) / sum;
        dlogits[target] -= static_cast<T>(scale);
        return std::log(static_cast<double>(sum)) + static_cast<double>(largest - target_logit);
    }
};

}  // namespace mor
