// SPDX-License-Identifier: Apache-2.0
//
// Halting, the same for every backend in host memory: a few numbers a row.
#pragma once

#include <mor/ops/halting.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace mor {

namespace host::detail {

/// The share of a row that had spent `before`, were it not its last.
template <class T>
T free_share(HaltingRule rule, T probability, T before) {
    return rule == HaltingRule::accumulate ? probability : probability * (T{1} - before);
}
template <HostBackend B, class T = typename B::Element>
bool ends(const Halting<B>& halting, Index i, T probability, T before) {
    return halting.is_last || (halting.is_last_of.size() > 0 && halting.is_last_of[i] == 1) ||
           before + free_share(halting.rule, probability, before) >=
               static_cast<T>(halting.threshold);
}

}  // namespace host::detail

template <HostBackend B>
struct Kernel<op::SelectUnspent, B> {
    static Index run(Context<B>& /*context*/, ConstVectorView<B> spent, ConstIndexView<B> source,
                     IndexView<B> kept) {
        Index count = 0;
        for (Index i = 0; i < source.size(); ++i) {
            if (spent[source[i]] < 1) {
                kept[count++] = i;
            }
        }
        return count;
    }
};

template <HostBackend B>
struct Kernel<op::Halt, B> {
    static void run(Context<B>& /*context*/, const Halting<B>& halting,
                    ConstVectorView<B> probability, ConstIndexView<B> active, VectorView<B> spent,
                    VectorView<B> before, VectorView<B> share) {
        using T = typename B::Element;
        for (Index i = 0; i < active.size(); ++i) {
            before[i] = spent[active[i]];
            const bool over = host::detail::ends(halting, i, probability[i], before[i]);
            share[i] = over ? T{1} - before[i]
                            : host::detail::free_share(halting.rule, probability[i], before[i]);
            spent[active[i]] = over ? T{1} : before[i] + share[i];
        }
    }
};

// With shares s_t: in `accumulate` the last share is 1 minus all p, so that each p owes it -1. In
// `survive` all later shares have a factor 1 - p; if that is 0 when rounded, so is their sum.
template <HostBackend B>
struct Kernel<op::HaltBackward, B> {
    static void run(Context<B>& /*context*/, const Halting<B>& halting,
                    ConstVectorView<B> probability, ConstIndexView<B> active,
                    ConstVectorView<B> before, ConstVectorView<B> dshare, VectorView<B> carry,
                    VectorView<B> dprobability) {
        using T = typename B::Element;
        for (Index i = 0; i < active.size(); ++i) {
            const T p = probability[i];
            const T left = T{1} - before[i];
            T& later = carry[active[i]];
            const bool over = host::detail::ends(halting, i, p, before[i]);
            if (halting.rule == HaltingRule::accumulate) {
                dprobability[i] = over ? T{0} : dshare[i] - later;
                later = over ? dshare[i] : later;
            } else {
                const T owed = later == T{0} ? T{0} : later / (T{1} - p);
                dprobability[i] = over ? T{0} : left * dshare[i] - owed;
                later += (over ? left : left * p) * dshare[i];
            }
        }
    }
};

template <HostBackend B>
struct Kernel<op::PonderCost, B> {
    static void run(Context<B>& /*context*/, const Halting<B>& halting,
                    ConstVectorView<B> probability, ConstVectorView<B> before, double scale,
                    VectorView<B> dshare, double factor, SumView<B> sum) {
        using T = typename B::Element;
        double cost = 0;
        for (Index i = 0; i < probability.size(); ++i) {
            cost += 1;
            if (host::detail::ends(halting, i, probability[i], before[i])) {
                cost += 1 - static_cast<double>(before[i]);
                dshare[i] += static_cast<T>(scale);
            }
        }
        sum[0] += factor * cost;
    }
};

template <HostBackend B>
struct Kernel<op::ShareEntropy, B> {
    static void run(Context<B>& /*context*/, ConstVectorView<B> share, double scale,
                    VectorView<B> dshare, double factor, SumView<B> sum) {
        using T = typename B::Element;
        double entropy = 0;
        for (Index i = 0; i < share.size(); ++i) {
            const double s =
                std::max(static_cast<double>(share[i]), double{std::numeric_limits<T>::min()});
            entropy += s * std::log(s);
            dshare[i] += static_cast<T>(scale * (std::log(s) + 1));
        }
        sum[0] += factor * entropy;
    }
};

}  // namespace mor
