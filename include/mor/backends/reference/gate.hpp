// SPDX-License-Identifier: Apache-2.0
//
// Gates of the Reference backend.
#pragma once

#include <mor/backends/reference/device.hpp>
#include <mor/backends/reference/router_loss.hpp>
#include <mor/ops/gate.hpp>

#include <cmath>

namespace mor {

template <class T>
struct Kernel<op::Gate, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, GateFunction function,
                    View<const T, 2> logits, double alpha, View<T, 2> gate) {
        for (Index i = 0; i < logits.rows(); ++i) {
            const double log_sum = reference::detail::logsumexp<T>(logits.row(i));
            for (Index j = 0; j < logits.columns(); ++j) {
                const double z = logits(i, j);
                switch (function) {
                    case GateFunction::sigmoid:
                        gate(i, j) = static_cast<T>(alpha * reference::detail::sigmoid(z));
                        break;
                    case GateFunction::tanh:
                        gate(i, j) = static_cast<T>(alpha * std::tanh(z));
                        break;
                    case GateFunction::identity:
                        gate(i, j) = logits(i, j);
                        break;
                    case GateFunction::softmax:
                        gate(i, j) = static_cast<T>(alpha * std::exp(z - log_sum));
                        break;
                }
            }
        }
    }
};

// With s = gate / alpha: d sigmoid = s (1 - s), d tanh = 1 - s^2, and of the softmax
// dlogits_j += gate_j (dgate_j - sum_i dgate_i s_i).
template <class T>
struct Kernel<op::GateBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, GateFunction function,
                    View<const T, 2> gate, double alpha, View<const T, 2> dgate,
                    View<T, 2> dlogits) {
        for (Index i = 0; i < gate.rows(); ++i) {
            const double mean = reference::detail::dot<T>(dgate.row(i), gate.row(i)) / alpha;
            for (Index j = 0; j < gate.columns(); ++j) {
                const double s = double{gate(i, j)} / alpha;
                const double d = dgate(i, j);
                switch (function) {
                    case GateFunction::sigmoid:
                        dlogits(i, j) += static_cast<T>(d * alpha * s * (1.0 - s));
                        break;
                    case GateFunction::tanh:
                        dlogits(i, j) += static_cast<T>(d * alpha * (1.0 - s * s));
                        break;
                    case GateFunction::identity:
                        dlogits(i, j) += static_cast<T>(d);
                        break;
                    case GateFunction::softmax:
                        dlogits(i, j) += static_cast<T>(alpha * s * (d - mean));
                        break;
                }
            }
        }
    }
};

template <class T>
struct Kernel<op::BestColumn, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x, View<const T, 1> bias,
                    View<Index, 1> best) {
        for (Index i = 0; i < x.rows(); ++i) {
            const auto biased = [&](Index j) { return bias.empty() ? x(i, j) : x(i, j) + bias[j]; };
            best[i] = 0;
            for (Index j = 1; j < x.columns(); ++j) {
                best[i] = biased(j) > biased(best[i]) ? j : best[i];
            }
        }
    }
};

template <class T>
struct Kernel<op::PickColumn, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 2> x,
                    View<const Index, 1> column, View<T, 1> out) {
        for (Index i = 0; i < x.rows(); ++i) {
            out[i] = x(i, column[i]);
        }
    }
};

template <class T>
struct Kernel<op::PickColumnBackward, Reference<T>> {
    static void run(Context<Reference<T>>& /*context*/, View<const T, 1> dout,
                    View<const Index, 1> column, View<T, 2> dx) {
        for (Index i = 0; i < dx.rows(); ++i) {
            dx(i, column[i]) += dout[i];
        }
    }
};

}  // namespace mor
