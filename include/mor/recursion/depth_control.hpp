// SPDX-License-Identifier: Apache-2.0
//
// Depth at inference, chosen by the caller: a trained model can think less, or be made to think as
// deep as it can (paper, section 4: test-time scaling).
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>

#include <cmath>
#include <limits>
#include <span>

namespace mor {

/// All limits hold at once; models without recursion steps have nothing to limit. Rows that a limit
/// stops leave the recursion as if the router had dropped them.
struct DepthControl {
    static constexpr Index unlimited = std::numeric_limits<Index>::max();

    Index max_depth = unlimited;             // steps a token may take, at least 1
    std::span<const Index> max_depths = {};  // the same for each sequence of the batch; or empty
    Index forced_depth = 0;                  // from 1 on: every token takes exactly so many steps
    // Added to the bound of expert-choice's causal rule: more, fewer pass. No other router has a
    // bound in logits: halting, exit gates and random choice have probabilities, and ignore it.
    double threshold_offset = 0;

    [[nodiscard]] bool has_limit() const {
        return max_depth != unlimited || !max_depths.empty() || forced_depth > 0;
    }
};

/// Throws ConfigError if a depth is not positive, the offset is not finite, or there are not as
/// many max_depths as sequences.
inline void validate(const DepthControl& depth, Index num_sequences) {
    check<ConfigError>(depth.max_depth >= 1, "mor::DepthControl: max_depth is ", depth.max_depth,
                       ", expected at least 1");
    check<ConfigError>(depth.forced_depth >= 0, "mor::DepthControl: forced_depth is ",
                       depth.forced_depth, ", expected 0 or more");
    check<ConfigError>(std::isfinite(depth.threshold_offset),
                       "mor::DepthControl: threshold_offset is not finite");
    check<ConfigError>(depth.max_depths.empty() || std::ssize(depth.max_depths) == num_sequences,
                       "mor::DepthControl: ", depth.max_depths.size(), " max_depths for ",
                       num_sequences, " sequences");
    for (const Index limit : depth.max_depths) {
        check<ConfigError>(limit >= 1, "mor::DepthControl: one of max_depths is ", limit,
                           ", expected at least 1");
    }
}

}  // namespace mor
