// SPDX-License-Identifier: Apache-2.0
//
// Recursive sharing of keys and values (paper, section 2.2.2): only the first use of a layer's
// weights stores keys and values, and all later uses attend to those.
#pragma once

#include <mor/cache/concept.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <tuple>

namespace mor {

class RecursiveSharingCache {
public:
    static constexpr std::string_view name = "recursive_sharing";
    static constexpr bool shares_first_step = true;
    static constexpr bool shares_keys_of_weights = true;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit RecursiveSharingCache(const Options& /*options*/ = {}) {}

    /// The first unrolled layer with the same weights. Rows of a later step are rows of the first
    /// one, so each finds at least its own key there.
    [[nodiscard]] Index key_layer(const Layout& layout, Index layer) const {
        const auto& physical = layout.physical;
        const auto first =
            std::find(physical.begin(), physical.end(), physical[static_cast<std::size_t>(layer)]);
        return first - physical.begin();
    }
};
static_assert(CachePolicy<RecursiveSharingCache>);

}  // namespace mor
