// SPDX-License-Identifier: Apache-2.0
//
// The published combinations, by name.
#pragma once

#include <mor/cache/recursion_wise.hpp>
#include <mor/cache/recursive_sharing.hpp>
#include <mor/model/architecture.hpp>
#include <mor/routing/expert_choice.hpp>
#include <mor/routing/fixed_depth.hpp>
#include <mor/routing/token_choice.hpp>
#include <mor/sharing/none.hpp>
#include <mor/sharing/recursive_layers.hpp>

namespace mor {

/// An ordinary transformer: every layer has weights of its own.
struct Vanilla : DefaultArchitecture {
    using Sharing = NoSharing;
    using Router = FixedDepth;
};

/// A recursive transformer: shared layers, and every token takes every step.
template <SharingPolicy S = MiddleCycle, CachePolicy C = RecursionWiseCache>
struct Recursive : DefaultArchitecture {
    using Sharing = S;
    using Router = FixedDepth;
    using Cache = C;
};

/// Mixture-of-Recursions with expert-choice routing.
template <SharingPolicy S = MiddleCycle, CachePolicy C = RecursionWiseCache>
struct MoRExpert : DefaultArchitecture {
    using Sharing = S;
    using Cache = C;
};

/// Mixture-of-Recursions with token-choice routing.
template <SharingPolicy S = MiddleCycle, CachePolicy C = RecursionWiseCache>
struct MoRToken : DefaultArchitecture {
    using Sharing = S;
    using Router = TokenChoice;
    using Cache = C;
};

}  // namespace mor
