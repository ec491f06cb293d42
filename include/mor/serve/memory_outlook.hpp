// SPDX-License-Identifier: Apache-2.0
//
// How many blocks running sequences will need at their worst, if they grow as they are expected to.
#pragma once

#include <algorithm>
#include <vector>

namespace mor::detail {

/// Blocks that a sequence holds alone, those that each further token adds, and how many tokens it
/// is expected to read before it ends and gives all of them back.
struct GrowingSequence {
    double blocks = 0;
    double growth = 0;
    double tokens = 0;
};

/// The most blocks that the sequences hold at once while each reads a token at a time. They hold
/// most when one is about to end.
[[nodiscard]] inline double peak_blocks(std::vector<GrowingSequence>& sequences) {
    std::sort(sequences.begin(), sequences.end(),
              [](const auto& a, const auto& b) { return a.tokens > b.tokens; });
    double peak = 0;
    double blocks = 0;
    double growth = 0;
    for (const GrowingSequence& sequence : sequences) {  // those before it are still running
        blocks += sequence.blocks;
        growth += sequence.growth;
        peak = std::max(peak, blocks + growth * sequence.tokens);
    }
    return peak;
}

}  // namespace mor::detail
