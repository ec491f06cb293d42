// SPDX-License-Identifier: Apache-2.0
//
// Gates of the Cuda backend: a few numbers a row, a thread a row.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/router_loss.hpp>
#include <mor/ops/gate.hpp>

#include <cmath>

namespace mor {

template <class T, class S>
struct Kernel<op::Gate, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, GateFunction function, ConstMatrixView<B> logits,
                    double alpha, MatrixView<B> gate) {
        context.backend().system().for_each(logits.rows(), [=] MOR_KERNEL(Index i) {
            const View<const T, 1> row = cuda::in_kernel(logits.row(i));
            const View<T, 1> out = cuda::in_kernel(gate.row(i));
            const bool is_softmax = function == GateFunction::softmax;
            const double log_sum = is_softmax ? cuda::detail::logsumexp(row) : 0.0;
            for (Index j = 0; j < row.size(); ++j) {
                const double z{row[j]};
                switch (function) {
                    case GateFunction::sigmoid:
                        out[j] = static_cast<T>(alpha * cuda::detail::sigmoid(z));
                        break;
                    case GateFunction::tanh:
                        out[j] = static_cast<T>(alpha * std::tanh(z));
                        break;
                    case GateFunction::identity:
                        out[j] = row[j];
                        break;
                    case GateFunction::softmax:
                        out[j] = static_cast<T>(alpha * std::exp(z - log_sum));
                        break;
                }
            }
        });
    }
};

// With s = gate / alpha: d sigmoid = s (1 - s), d tanh = 1 - s^2, and of the softmax
// dlogits_j += gate_j (dgate_j - sum_i dgate_i s_i).
template <class T, class S>
struct Kernel<op::GateBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, GateFunction function, ConstMatrixView<B> gate,
                    double alpha, ConstMatrixView<B> dgate, MatrixView<B> dlogits) {
        context.backend().system().for_each(gate.rows(), [=] MOR_KERNEL(Index i) {
            const View<const T, 1> row = cuda::in_kernel(gate.row(i));
            const View<const T, 1> upstream = cuda::in_kernel(dgate.row(i));
            const View<T, 1> out = cuda::in_kernel(dlogits.row(i));
            double mean = 0;
            for (Index j = 0; j < row.size() && function == GateFunction::softmax; ++j) {
                mean += double{upstream[j]} * double{row[j]} / alpha;
            }
            for (Index j = 0; j < row.size(); ++j) {
                const double s = double{row[j]} / alpha;
                const double d{upstream[j]};
                switch (function) {
                    case GateFunction::sigmoid:
                        out[j] += static_cast<T>(d * alpha * s * (1.0 - s));
                        break;
                    case GateFunction::tanh:
                        out[j] += static_cast<T>(d * alpha * (1.0 - s * s));
                        break;
                    case GateFunction::identity:
                        out[j] += upstream[j];
                        break;
                    case GateFunction::softmax:
                        out[j] += static_cast<T>(alpha * s * (d - mean));
                        break;
                }
            }
        });
    }
};

template <class T, class S>
struct Kernel<op::BestColumn, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstVectorView<B> bias,
                    IndexView<B> best) {
        context.backend().system().for_each(x.rows(), [=] MOR_KERNEL(Index i) {
            const View<const T, 1> row = cuda::in_kernel(x.row(i));
            const View<const T, 1> added = cuda::in_kernel(bias);
            Index column = 0;
            T largest = added.empty() ? row[0] : row[0] + added[0];
            for (Index j = 1; j < row.size(); ++j) {
                const T value = added.empty() ? row[j] : row[j] + added[j];
                if (value > largest) {
                    largest = value;
                    column = j;
                }
            }
            cuda::in_kernel(best)[i] = column;
        });
    }
};

template <class T, class S>
struct Kernel<op::PickColumn, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstMatrixView<B> x, ConstIndexView<B> column,
                    VectorView<B> out) {
        context.backend().system().for_each(x.rows(), [=] MOR_KERNEL(Index i) {
            cuda::in_kernel(out)[i] = cuda::in_kernel(x)(i, cuda::in_kernel(column)[i]);
        });
    }
};

template <class T, class S>
struct Kernel<op::PickColumnBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstVectorView<B> dout, ConstIndexView<B> column,
                    MatrixView<B> dx) {
        context.backend().system().for_each(dx.rows(), [=] MOR_KERNEL(Index i) {
            cuda::in_kernel(dx)(i, cuda::in_kernel(column)[i]) += cuda::in_kernel(dout)[i];
        });
    }
};

}  // namespace mor
