// SPDX-License-Identifier: Apache-2.0
//
// Ordered compaction: where the keys that reach a bound are.
#pragma once

#include <mor/core/types.hpp>

#include <bit>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace mor::cpu::detail {

/// The first `count` indices i, from `i` on, with keys[i] >= bound; there are so many. Each goes to
/// `kept`, plus `first`.
template <class Key>
void keep_one_by_one(const Key* keys, Index i, Key bound, Index count, Index first, Index* kept) {
    for (Index found = 0; found < count; ++i) {
        kept[found] = first + i;
        found += keys[i] >= bound ? 1 : 0;
    }
}

/// The same of keys [n] from the beginning.
template <class Key>
void keep_from(const Key* keys, Index /*n*/, Key bound, Index count, Index first, Index* kept) {
    keep_one_by_one(keys, 0, bound, count, first, kept);
}

#if defined(__AVX512F__)
/// Sixteen at a time: an instruction moves the indices that a mask picks, eight of them, to the
/// front.
inline void keep_from(const std::int32_t* keys, Index n, std::int32_t bound, Index count,
                      Index first, Index* kept) {
    constexpr Index lanes = 16;
    constexpr Index half = lanes / 2;
    static_assert(sizeof(Index) == sizeof(std::int64_t));
    const __m512i bounds = _mm512_set1_epi32(bound);
    const __m512i step = _mm512_set1_epi64(half);
    __m512i indices =
        _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    Index found = 0;
    Index i = 0;
    // A whole register is stored each time, so the last few are kept one by one.
    for (; i + lanes <= n && found + lanes <= count; i += lanes) {
        const auto mask =
            static_cast<unsigned>(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(keys + i), bounds));
        const unsigned low = mask & 0xFFU;
        const unsigned high = mask >> half;
        _mm512_storeu_si512(kept + found,
                            _mm512_maskz_compress_epi64(static_cast<__mmask8>(low), indices));
        found += std::popcount(low);
        indices = _mm512_add_epi64(indices, step);
        _mm512_storeu_si512(kept + found,
                            _mm512_maskz_compress_epi64(static_cast<__mmask8>(high), indices));
        found += std::popcount(high);
        indices = _mm512_add_epi64(indices, step);
    }
    keep_one_by_one(keys, i, bound, count - found, first, kept + found);
}
#endif

}  // namespace mor::cpu::detail
