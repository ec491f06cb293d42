// SPDX-License-Identifier: Apache-2.0
//
// Whatever this machine has for ordered compaction keeps what a plain loop keeps.
#include <mor/backends/cpu/compaction.hpp>
#include <mor/core/random.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

using mor::Index;

namespace {

template <class Key>
void compare(Index n, Index most, mor::Random& random) {
    std::vector<Key> keys;
    for (Index i = 0; i < n; ++i) {
        keys.push_back(static_cast<Key>(random.below(50)) - 25);
    }
    const auto bound = static_cast<Key>(random.below(60)) - 30;
    const auto reach = std::count_if(keys.begin(), keys.end(), [&](Key k) { return k >= bound; });
    const Index count = std::min<Index>(reach, most);
    std::vector<Index> plain(static_cast<std::size_t>(count + 1), -7);
    std::vector<Index> kept = plain;
    mor::cpu::detail::keep_one_by_one(keys.data(), Index{0}, bound, count, Index{100},
                                      plain.data());
    mor::cpu::detail::keep_from(keys.data(), n, bound, count, Index{100}, kept.data());
    CHECK(kept == plain);
    CHECK(kept.back() == -7);  // nothing is written past the end
}

}  // namespace

TEST_CASE_TEMPLATE("compaction keeps what a plain loop keeps", Key, std::int32_t, std::int64_t) {
    mor::Random random{7};
    for (Index n = 0; n < 120; ++n) {
        compare<Key>(n, n, random);
        compare<Key>(n, random.below(n + 1), random);
    }
    compare<Key>(5'000, 5'000, random);
    compare<Key>(5'000, 1'234, random);
}
