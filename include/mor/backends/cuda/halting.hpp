// SPDX-License-Identifier: Apache-2.0
//
// Halting of the Cuda backend: a few numbers a row, a thread a row.
#pragma once

#include <mor/backends/cuda/compaction.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/reductions.hpp>
#include <mor/ops/halting.hpp>

#include <cmath>
#include <limits>

namespace mor {

namespace cuda::detail {

/// The share of a row that had spent `before`, were it not its last.
template <class T>
[[nodiscard]] MOR_HOST_DEVICE T free_share(HaltingRule rule, T probability, T before) {
    return rule == HaltingRule::accumulate ? probability : probability * (T{1} - before);
}

template <class B, class T = typename B::Element>
[[nodiscard]] MOR_HOST_DEVICE bool ends(const Halting<B>& halting, Index i, T probability,
                                        T before) {
    const View<const Index, 1> is_last_of = in_kernel(halting.is_last_of);
    return halting.is_last || (is_last_of.size() > 0 && is_last_of[i] == 1) ||
           before + free_share(halting.rule, probability, before) >=
               static_cast<T>(halting.threshold);
}

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::SelectUnspent, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstVectorView<B> spent, ConstIndexView<B> source,
                     IndexView<B> kept) {
        return cuda::detail::compact(
            context, source.size(),
            [=] MOR_HOST_DEVICE(Index i) {
                return cuda::in_kernel(spent)[cuda::in_kernel(source)[i]] < T{1};
            },
            kept);
    }
};

template <class T, class S>
struct Kernel<op::Halt, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
                    ConstIndexView<B> active, VectorView<B> spent, VectorView<B> before,
                    VectorView<B> share) {
        const Halting<B> rule = halting;
        context.backend().system().for_each(active.size(), [=] MOR_KERNEL(Index i) {
            const T p = cuda::in_kernel(probability)[i];
            T& sum = cuda::in_kernel(spent)[cuda::in_kernel(active)[i]];
            const T old = sum;
            const bool over = cuda::detail::ends(rule, i, p, old);
            const T taken = over ? T{1} - old : cuda::detail::free_share(rule.rule, p, old);
            cuda::in_kernel(before)[i] = old;
            cuda::in_kernel(share)[i] = taken;
            sum = over ? T{1} : old + taken;
        });
    }
};

// With shares s_t: in `accumulate` the last share is 1 minus all p, so that each p owes it -1. In
// `survive` all later shares have a factor 1 - p; if that is 0 when rounded, so is their sum.
template <class T, class S>
struct Kernel<op::HaltBackward, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
                    ConstIndexView<B> active, ConstVectorView<B> before, ConstVectorView<B> dshare,
                    VectorView<B> carry, VectorView<B> dprobability) {
        const Halting<B> rule = halting;
        context.backend().system().for_each(active.size(), [=] MOR_KERNEL(Index i) {
            const T p = cuda::in_kernel(probability)[i];
            const T upstream = cuda::in_kernel(dshare)[i];
            const T left = T{1} - cuda::in_kernel(before)[i];
            T& later = cuda::in_kernel(carry)[cuda::in_kernel(active)[i]];
            T& out = cuda::in_kernel(dprobability)[i];
            const bool over = cuda::detail::ends(rule, i, p, cuda::in_kernel(before)[i]);
            if (rule.rule == HaltingRule::accumulate) {
                out = over ? T{0} : upstream - later;
                later = over ? upstream : later;
            } else {
                const T owed = later == T{0} ? T{0} : later / (T{1} - p);
                out = over ? T{0} : left * upstream - owed;
                later += (over ? left : left * p) * upstream;
            }
        });
    }
};

template <class T, class S>
struct Kernel<op::PonderCost, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, const Halting<B>& halting, ConstVectorView<B> probability,
                    ConstVectorView<B> before, double scale, VectorView<B> dshare, double factor,
                    SumView<B> sum) {
        const Halting<B> rule = halting;
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto costs = context.arena().template make<double, 1>({probability.size()});
        context.backend().system().for_each(probability.size(), [=] MOR_KERNEL(Index i) {
            const T old = cuda::in_kernel(before)[i];
            const bool over = cuda::detail::ends(rule, i, cuda::in_kernel(probability)[i], old);
            cuda::in_kernel(costs)[i] = over ? 2.0 - double{old} : 1.0;
            cuda::in_kernel(dshare)[i] += over ? static_cast<T>(scale) : T{0};
        });
        cuda::detail::add_sum<B>(context, costs, factor, sum);
    }
};

template <class T, class S>
struct Kernel<op::ShareEntropy, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstVectorView<B> share, double scale,
                    VectorView<B> dshare, double factor, SumView<B> sum) {
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const auto terms = context.arena().template make<double, 1>({share.size()});
        context.backend().system().for_each(share.size(), [=] MOR_KERNEL(Index i) {
            constexpr double smallest{std::numeric_limits<T>::min()};
            const double given{cuda::in_kernel(share)[i]};
            const double s = given > smallest ? given : smallest;
            cuda::in_kernel(terms)[i] = s * std::log(s);
            cuda::in_kernel(dshare)[i] += static_cast<T>(scale * (std::log(s) + 1.0));
        });
        cuda::detail::add_sum<B>(context, terms, factor, sum);
    }
};

}  // namespace mor
