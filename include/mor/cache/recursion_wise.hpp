// SPDX-License-Identifier: Apache-2.0
//
// Recursion-wise caching (paper, section 2.2.2): every step stores keys and values of the tokens
// active in it, and attends to those alone.
#pragma once

#include <mor/cache/concept.hpp>

#include <tuple>

namespace mor {

class RecursionWiseCache {
public:
    static constexpr std::string_view name = "recursion_wise";
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit RecursionWiseCache(const Options& /*options*/ = {}) {}

    [[nodiscard]] Index key_layer(const Layout& /*layout*/, Index layer) const { return layer; }
};
static_assert(CachePolicy<RecursionWiseCache>);

}  // namespace mor
