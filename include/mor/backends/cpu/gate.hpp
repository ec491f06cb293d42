// SPDX-License-Identifier: Apache-2.0
//
// Gates of the Cpu backend. A few numbers a token: one thread is enough.
#pragma once

#include <mor/backends/cpu/device.hpp>
#include <mor/backends/cpu/elementwise.hpp>
#include <mor/ops/gate.hpp>

#include <algorithm>
#include <numeric>

namespace mor {

template <class T, class Factor>
struct Kernel<op::Gate, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, GateFunction function,
                    View<const T, 2> logits, double alpha, View<T, 2> gate) {
        using cpu::detail::transform;
        const T* const x = logits.data();
        T* const out = gate.data();
        const T scale = static_cast<T>(alpha);
        switch (function) {
            case GateFunction::sigmoid:
                transform(
                    logits.size(),
                    [&](const auto& a) { return (scale / (T{1} + (-a).exp())).eval(); }, out, x);
                return;
            case GateFunction::tanh:
                transform(
                    logits.size(), [&](const auto& a) { return (scale * a.tanh()).eval(); }, out,
                    x);
                return;
            case GateFunction::identity:
                std::copy_n(x, logits.size(), out);
                return;
            case GateFunction::softmax:
                break;
        }
        for (Index i = 0; i < logits.rows(); ++i) {
            const T* const row = logits.row(i).data();
            T* const probability = gate.row(i).data();
            const Index columns = logits.columns();
            const T largest = *std::max_element(row, row + columns);
            transform(
                columns, [&](const auto& a) { return (a - largest).exp().eval(); }, probability,
                row);
            const T sum = std::accumulate(probability, probability + columns, T{0});
            std::transform(probability, probability + columns, probability,
                           [&](T p) { return p * (scale / sum); });
        }
    }
};

// With s = gate / alpha the derivatives are alpha s (1 - s) for the sigmoid and alpha (1 - s^2) for
// tanh; the softmax's gradient is gate * (dgate - sum(dgate * s)).
template <class T, class Factor>
struct Kernel<op::GateBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, GateFunction function,
                    View<const T, 2> gate, double alpha, View<const T, 2> dgate,
                    View<T, 2> dlogits) {
        using cpu::detail::array;
        const auto g = array(gate.flat());
        const auto d = array(dgate.flat());
        auto out = array(dlogits.flat());
        const T scale = static_cast<T>(alpha);
        switch (function) {
            case GateFunction::sigmoid:
                out += d * g * (T{1} - g / scale);
                return;
            case GateFunction::tanh:
                out += d * (scale - g * g / scale);
                return;
            case GateFunction::identity:
                out += d;
                return;
            case GateFunction::softmax:
                break;
        }
        for (Index i = 0; i < gate.rows(); ++i) {
            const auto row = array(gate.row(i));
            const auto drow = array(dgate.row(i));
            const T mean = (drow * row).sum() / scale;
            array(dlogits.row(i)) += row * (drow - mean);
        }
    }
};

template <class T, class Factor>
struct Kernel<op::BestColumn, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 2> x, View<const T, 1> bias,
                    View<Index, 1> best) {
        for (Index i = 0; i < x.rows(); ++i) {
            const auto biased = [&](Index j) { return bias.empty() ? x(i, j) : x(i, j) + bias[j]; };
            best[i] = 0;
            T largest = biased(0);
            for (Index j = 1; j < x.columns(); ++j) {
                if (biased(j) > largest) {
                    largest = biased(j);
                    best[i] = j;
                }
            }
        }
    }
};

template <class T, class Factor>
struct Kernel<op::PickColumn, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> column, View<T, 1> out) {
        for (Index i = 0; i < x.rows(); ++i) {
            out[i] = x(i, column[i]);
        }
    }
};

template <class T, class Factor>
struct Kernel<op::PickColumnBackward, Cpu<T, Factor>> {
    static void run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 1> dout,
                    View<const Index, 1> column, View<T, 2> dx) {
        for (Index i = 0; i < dx.rows(); ++i) {
            dx(i, column[i]) += dout[i];
        }
    }
};

}  // namespace mor
