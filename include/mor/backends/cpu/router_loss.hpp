// SPDX-License-Identifier: Apache-2.0
//
// Router losses of the Cpu backend.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/ops/router_loss.hpp>

#include <algorithm>
#include <cmath>

namespace mor {

namespace cpu::detail {

template <class T>
[[nodiscard]] T sigmoid(T x) {
    return T{1} / (T{1} + std::exp(-x));
}

}  // namespace cpu::detail

template <class T, class Factor>
struct Kernel<op::SelectionLoss, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 1> logits,
                    View<const Index, 1> kept, double scale, View<T, 1> dlogits, double factor,
                    View<double, 1> sum) {
        double loss = 0;
        Index next = 0;
        for (Index i = 0; i < logits.size(); ++i) {
            const bool selected = next < kept.size() && kept[next] == i;
            next += selected ? 1 : 0;
            // -log sigmoid(z) = softplus(-z) and -log(1 - sigmoid(z)) = softplus(z).
            const double z = static_cast<double>(logits[i]);
            loss += std::max(selected ? -z : z, 0.0) + std::log1p(std::exp(-std::abs(z)));
            const T target = selected ? T{1} : T{0};
            dlogits[i] += static_cast<T>(scale) * (cpu::detail::sigmoid(logits[i]) - target);
        }
        sum[0] += factor * loss;
    }
};

template <class T, class Factor>
struct Kernel<op::RouterZLoss, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 2> logits, double scale,
                    View<T, 2> dlogits, double factor, View<double, 1> sum) {
        using cpu::detail::array;
        double loss = 0;
        for (Index i = 0; i < logits.rows(); ++i) {
            const auto row = array(logits.row(i));
            const T largest = row.maxCoeff();
            const T exponentials = (row - largest).exp().sum();
            const T log_sum = largest + std::log(exponentials);
            loss += static_cast<double>(log_sum) * static_cast<double>(log_sum);
            array(dlogits.row(i)) +=
                static_cast<T>(2 * scale) * log_sum / exponentials * (row - largest).exp();
        }
        sum[0] += factor * loss;
    }
};

template <class T, class Factor>
struct Kernel<op::BalancingLoss, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& context, View<const T, 2> gate,
                    View<const Index, 1> best, double scale, View<T, 2> dgate, double factor,
                    View<double, 1> sum) {
        using namespace cpu::detail;
        if (gate.rows() == 0) {
            return;
        }
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto load = context.zero_vector(gate.columns());
        for (Index i = 0; i < best.size(); ++i) {
            load[best[i]] += T{1};
        }
        const auto rows = static_cast<double>(gate.rows());
        const double normaliser = static_cast<double>(gate.columns()) / (rows * rows);
        double loss = 0;
        for (Index i = 0; i < gate.rows(); ++i) {
            loss += static_cast<double>((array(gate.row(i)) * array(load)).sum());
            array(dgate.row(i)) += static_cast<T>(scale * normaliser) * array(load);
        }
        sum[0] += factor * (loss * normaliser);
    }
};

}  // namespace mor
