// SPDX-License-Identifier: Apache-2.0
//
// Keys and values shared in a pattern that the weights need not follow: also a vanilla model can
// keep fewer of them.
#pragma once

#include <mor/cache/concept.hpp>
#include <mor/core/joined.hpp>
#include <mor/sharing/recursive_layers.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

namespace mor {

/// Layers that would have the same weights under `Pattern` attend to the keys and values of the
/// first of them: with Cycle and num_recursions 3, layers 4 and 8 of 12 to those of layer 0.
/// Options are the pattern's. With the model's own sharing as the pattern it is
/// RecursiveSharingCache.
template <SharingPolicy Pattern>
class PatternSharingCache {
    static constexpr std::string_view base = "pattern_sharing.";

public:
    static constexpr std::string_view name = Joined<&base, &Pattern::name>::text;
    static constexpr bool shares_first_step = true;
    using Options = typename Pattern::Options;

    explicit PatternSharingCache(const Options& options = {}) : pattern_{options} {}

    /// Throws ConfigError, naming the pattern, if it does not fit the number of layers.
    [[nodiscard]] Index key_layer(const Layout& layout, Index layer) const {
        const std::vector<Index> pattern = pattern_.layout(layout.num_unrolled()).physical;
        const auto first =
            std::find(pattern.begin(), pattern.end(), pattern[static_cast<std::size_t>(layer)]);
        return first - pattern.begin();
    }

private:
    Pattern pattern_;
};
static_assert(CachePolicy<PatternSharingCache<Cycle>>);

}  // namespace mor
