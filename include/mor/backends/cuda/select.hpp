// SPDX-License-Identifier: Apache-2.0
//
// Selection of the Cuda backend. The best k of each sequence: a team counts how many scores reach a
// bound, until k do.
#pragma once

#include <mor/backends/cuda/compaction.hpp>
#include <mor/backends/cuda/device.hpp>
#include <mor/backends/cuda/team_scan.hpp>
#include <mor/ops/select.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace mor {

namespace cuda::detail {

/// An integer in the order of numbers. NaN is as low as -infinity; -0 equals 0.
template <class T>
[[nodiscard]] MOR_HOST_DEVICE constexpr auto ordered_key(T score) {
    static_assert(std::numeric_limits<T>::is_iec559);
    using Key =
        std::conditional_t<sizeof(T) == sizeof(std::uint32_t), std::uint32_t, std::uint64_t>;
    constexpr Key sign = Key{1} << (std::numeric_limits<Key>::digits - 1);
    // A NaN is not itself. The sum makes -0 the same as 0.
    const T number = score == score ? score + T{0} : -std::numeric_limits<T>::infinity();
    const Key bits = std::bit_cast<Key>(number);
    return (bits & sign) != 0 ? ~bits : bits | sign;
}

/// What the kernel is called with, and the work of one team: a sequence.
template <class B>
struct BestOfSequences {
    using T = typename B::Element;
    using Key = decltype(ordered_key(T{}));
    static constexpr std::size_t shared_bytes = most_team_threads * sizeof(Index);

    ConstVectorView<B> scores;
    ConstIndexView<B> offsets;
    ConstIndexView<B> k;
    IndexView<B> kept;
    IndexView<B> total;  // [1], how many all sequences keep

    template <class Team>
    MOR_HOST_DEVICE void run(Team& team, Index s) const {
        Index earlier = 0;
        for (Index i = team.rank(); i < s; i += team.size()) {
            earlier += num_kept(i);
        }
        earlier = team.sum(earlier);
        const Index count = num_kept(s);
        if (s + 1 == k.size() && team.rank() == 0) {
            in_kernel(total)[0] = earlier + count;
        }
        const Index first = in_kernel(offsets)[s];
        const Index last = in_kernel(offsets)[s + 1];
        Index* const out = in_kernel(kept).data() + earlier;
        if (count == last - first) {
            for (Index i = team.rank(); i < count; i += team.size()) {
                out[i] = first + i;
            }
        } else if (count > 0) {
            keep(team, first, last, find_bound(team, first, last, count), out);
        }
    }

private:
    /// What is kept: keys of `high` or more, and of those in [low, high) the first `num_equal`; if
    /// that is not 0, they are equal.
    struct Bound {
        Key low;
        Key high;
        Index num_equal;
    };

    [[nodiscard]] MOR_HOST_DEVICE Index num_kept(Index s) const {
        const Index length = in_kernel(offsets)[s + 1] - in_kernel(offsets)[s];
        const Index wanted = in_kernel(k)[s];
        return wanted < 0 ? 0 : wanted < length ? wanted : length;
    }

    [[nodiscard]] MOR_HOST_DEVICE Key key(Index row) const {
        return ordered_key(in_kernel(scores)[row]);
    }

    /// The bound of the best `count` rows, more than none and fewer than all. Where scores differ,
    /// it takes little more than log2(rows) rounds to part two neighbours.
    template <class Team>
    [[nodiscard]] MOR_HOST_DEVICE Bound find_bound(Team& team, Index first, Index last,
                                                   Index count) const {
        Key largest = 0;
        Key smallest_inverted = 0;
        for (Index row = first + team.rank(); row < last; row += team.size()) {
            const Key here = key(row);
            largest = here > largest ? here : largest;
            smallest_inverted = ~here > smallest_inverted ? ~here : smallest_inverted;
        }
        // More rows than `count` reach `low`; `num_high` reach `high`, at most `count`.
        Key low = ~team.max(smallest_inverted);
        Key high = team.max(largest) + 1;
        Index num_high = 0;
        while (high - low > 1 && num_high < count) {
            const Key middle = low + (high - low) / 2;
            Index reaching = 0;
            for (Index row = first + team.rank(); row < last; row += team.size()) {
                reaching += key(row) >= middle ? 1 : 0;
            }
            reaching = team.sum(reaching);
            if (reaching > count) {
                low = middle;
            } else {
                high = middle;
                num_high = reaching;
            }
        }
        return {low, high, count - num_high};
    }

    /// Each thread owns a piece of the sequence, and counts what the pieces before it keep.
    template <class Team>
    MOR_HOST_DEVICE void keep(Team& team, Index first, Index last, const Bound& bound,
                              Index* out) const {
        const Index piece = (last - first + team.size() - 1) / team.size();
        const Index begin = first + team.rank() * piece;
        const Index end = begin + piece < last ? begin + piece : last;
        Index above = 0;
        Index equal = 0;
        for (Index row = begin; row < end; ++row) {
            const Key here = key(row);
            above += here >= bound.high ? 1 : 0;
            equal += here >= bound.low && here < bound.high ? 1 : 0;
        }
        Index* const memory = team.template shared<Index>();
        above = sum_before(team, above, memory);
        equal = sum_before(team, equal, memory);
        for (Index row = begin; row < end; ++row) {
            const Key here = key(row);
            const bool is_above = here >= bound.high;
            const bool is_equal = here >= bound.low && !is_above;
            if (is_above || (is_equal && equal < bound.num_equal)) {
                out[above + (equal < bound.num_equal ? equal : bound.num_equal)] = row;
            }
            above += is_above ? 1 : 0;
            equal += is_equal ? 1 : 0;
        }
    }
};

}  // namespace cuda::detail

template <class T, class S>
struct Kernel<op::TopK, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstVectorView<B> scores, ConstIndexView<B> offsets,
                     ConstIndexView<B> k, IndexView<B> kept, std::optional<Index> known) {
        if (k.empty()) {
            return 0;
        }
        const typename Arena<typename B::Space>::Scope scope{context.arena()};
        const cuda::detail::BestOfSequences<B> best{scores, offsets, k, kept, context.indices(1)};
        context.backend().system().for_each_team(
            k.size(), best.shared_bytes,
            [=] MOR_KERNEL(typename S::Team & team, Index s) { best.run(team, s); });
        return known ? *known : to_host(best.total).front();
    }
};

template <class T, class S>
struct Kernel<op::SelectGreater, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstVectorView<B> scores, double bound,
                     IndexView<B> kept) {
        return cuda::detail::compact(
            context, scores.size(),
            [=] MOR_HOST_DEVICE(Index i) { return double{cuda::in_kernel(scores)[i]} > bound; },
            kept);
    }
};

template <class T, class S>
struct Kernel<op::SelectAtLeast, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static Index run(Context<B>& context, ConstIndexView<B> depth, ConstIndexView<B> rows,
                     Index bound, IndexView<B> kept) {
        return cuda::detail::compact(
            context, rows.size(),
            [=] MOR_HOST_DEVICE(Index i) {
                return cuda::in_kernel(depth)[cuda::in_kernel(rows)[i]] >= bound;
            },
            kept);
    }
};

template <class T, class S>
struct Kernel<op::CapacityCounts, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> offsets, double capacity,
                    IndexView<B> out) {
        context.backend().system().for_each(out.size(), [=] MOR_KERNEL(Index s) {
            const View<const Index, 1> starts = cuda::in_kernel(offsets);
            cuda::in_kernel(out)[s] = capacity_count(starts[s + 1] - starts[s], capacity);
        });
    }
};

// A team a value: values are few, being depths.
template <class T, class S>
struct Kernel<op::CountValues, Cuda<T, S>> {
    using B = Cuda<T, S>;

    static void run(Context<B>& context, ConstIndexView<B> values, IndexView<B> counts) {
        context.backend().system().for_each_team(
            counts.size(), [=] MOR_KERNEL(typename S::Team & team, Index value) {
                Index found = 0;
                for (Index i = team.rank(); i < values.size(); i += team.size()) {
                    found += cuda::in_kernel(values)[i] == value ? 1 : 0;
                }
                const Index count = team.sum(found);
                if (team.rank() == 0) {
                    cuda::in_kernel(counts)[value] += count;
                }
            });
    }
};

}  // namespace mor
