// SPDX-License-Identifier: Apache-2.0
//
// Selection of the Cpu backend: linear time, ascending by construction.
#pragma once

#include <mor/backends/cpu/compaction.hpp>
#include <mor/backends/cpu/device.hpp>
#include <mor/ops/select.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>

namespace mor {

namespace cpu::detail {

/// Integers in the order of numbers: comparing and counting them vectorises without any flag that
/// lets a compiler take liberties with NaN. NaN is as low as -infinity; -0 equals 0.
template <class T>
class OrderedKeys {
    static_assert(std::numeric_limits<T>::is_iec559);

public:
    using Key = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

    static Key of(T score) {
        const T lowest = -std::numeric_limits<T>::infinity();
        const T number = std::isnan(score) ? lowest : score + T{0};
        const auto bits = std::bit_cast<Key>(number);
        return bits ^ (bits < 0 ? std::numeric_limits<Key>::max() : Key{0});
    }
    /// The number of a key that `of` gave.
    static T number(Key key) {
        return std::bit_cast<T>(key ^ (key < 0 ? std::numeric_limits<Key>::max() : Key{0}));
    }
    /// How many of keys [n] are `bound` or more. Four sums side by side, as one would wait for
    /// itself.
    static Key count_from(const Key* keys, Index n, Key bound) {
        constexpr Index num_sums = 4;
        const Index part = n / num_sums;
        std::array<Key, num_sums> sums{};
        for (Index i = 0; i < part; ++i) {
            for (Index s = 0; s < num_sums; ++s) {
                sums[static_cast<std::size_t>(s)] += keys[s * part + i] >= bound ? Key{1} : Key{0};
            }
        }
        const auto rest = std::count_if(keys + num_sums * part, keys + n,
                                        [bound](Key key) { return key >= bound; });
        return std::accumulate(sums.begin(), sums.end(), static_cast<Key>(rest));
    }
};

}  // namespace cpu::detail

// A bound that exactly k keys reach is found in a few passes, each of which counts a packet at a
// time; a partition would move keys one by one. A straight line between two counts guesses the
// bound well where scores are spread like most; every third guess, and all after a few, halve the
// range. If k falls among equal keys, the search goes on until the bound is theirs.
template <class T, class Factor>
struct Kernel<op::TopK, Cpu<T, Factor>> {
    static Index run(Context<Cpu<T, Factor>>& context, View<const T, 1> scores,
                     View<const Index, 1> offsets, View<const Index, 1> k, View<Index, 1> kept) {
        const typename Arena<HostSpace>::Scope scope{context.arena()};
        const auto keys = context.arena().template make<Key, 1>({scores.size()});
        const IndexView<Cpu<T, Factor>> begin = context.indices(k.size());  // in kept
        Index count = 0;
        for (Index s = 0; s < k.size(); ++s) {
            begin[s] = count;
            count += std::clamp<Index>(k[s], 0, offsets[s + 1] - offsets[s]);
        }
        constexpr Index passes = 16;  // over a sequence, for the cost of a piece
        const Index grain =
            cpu::detail::grain_rows(passes * scores.size() / std::max<Index>(1, k.size()));
        context.backend().parallel_for(k.size(), grain, [&](Index first, Index last) {
            for (Index s = first; s < last; ++s) {
                select(scores, offsets[s], offsets[s + 1], k[s], keys.data() + offsets[s],
                       kept.data() + begin[s]);
            }
        });
        return count;
    }

private:
    using Keys = cpu::detail::OrderedKeys<T>;
    using Key = typename Keys::Key;

    static void select(View<const T, 1> scores, Index first, Index last, Index k, Key* keys,
                       Index* kept) {
        const Index n = last - first;
        if (k <= 0 || n == 0) {
            return;
        }
        if (k >= n) {
            std::iota(kept, kept + n, first);
            return;
        }
        std::transform(scores.data() + first, scores.data() + last, keys, Keys::of);
        // k keys or more, `num_low`, reach `low`; fewer, `num_high`, reach `high`.
        Key low = *std::min_element(keys, keys + n);
        Key high = *std::max_element(keys, keys + n) + 1;
        Index num_low = n;
        Index num_high = 0;
        for (int pass = 0; high - 1 > low && num_high < k; ++pass) {
            constexpr int most_guesses = 8;
            const Key bound =
                pass % 3 == 2 || pass >= most_guesses
                    ? std::midpoint(low, high)
                    : guess(low, high,
                            static_cast<T>(num_low - k) / static_cast<T>(num_low - num_high));
            const Index count = Keys::count_from(keys, n, bound);
            if (count > k) {
                low = bound;
                num_low = count;
            } else {
                high = bound;
                num_high = count;
            }
        }
        if (num_high == k) {
            cpu::detail::keep_from(keys, n, high, k, first, kept);
        } else {
            keep_some_equal(keys, low, k, k - num_high, first, kept);
        }
    }

    /// The key in (low, high) so far on the way from one number to the other.
    static Key guess(Key low, Key high, T way) {
        const T from = Keys::number(low);
        const T number = from + way * (Keys::number(high - 1) - from);
        if (!std::isfinite(number)) {
            return std::midpoint(low, high);
        }
        return std::clamp(Keys::of(number), low + 1, high - 1);
    }

    /// Keeps k rows, counted from `first`: all whose keys exceed `low`, and the first of those
    /// equal.
    static void keep_some_equal(const Key* keys, Key low, Index k, Index equal, Index first,
                                Index* kept) {
        Index count = 0;
        for (Index i = 0; count < k; ++i) {
            const bool is_equal = keys[i] == low && equal > 0;
            equal -= is_equal ? 1 : 0;
            kept[count] = first + i;
            count += keys[i] > low || is_equal ? 1 : 0;
        }
    }
};

template <class T, class Factor>
struct Kernel<op::SelectGreater, Cpu<T, Factor>> {
    static Index run(Context<Cpu<T, Factor>>& /*context*/, View<const T, 1> scores, double bound,
                     View<Index, 1> kept) {
        Index count = 0;
        for (Index i = 0; i < scores.size(); ++i) {
            kept[count] = i;
            count += static_cast<double>(scores[i]) > bound ? 1 : 0;
        }
        return count;
    }
};

}  // namespace mor
