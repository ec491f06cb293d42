// SPDX-License-Identifier: Apache-2.0
//
// Hybrid caching (paper, appendix; "update" in the authors' code): later steps attend to the
// entries of the first use of their weights, in which those of active tokens are replaced by the
// step's own.
#pragma once

#include <mor/cache/recursive_sharing.hpp>

namespace mor {

/// A step's replacements are seen by that step alone: the next one starts from the first again.
class HybridCache : public RecursiveSharingCache {
public:
    static constexpr std::string_view name = "hybrid";
    static constexpr bool updates_shared_keys = true;
    using RecursiveSharingCache::RecursiveSharingCache;
};
static_assert(CachePolicy<HybridCache> && mor::updates_shared_keys<HybridCache>);

}  // namespace mor
