// SPDX-License-Identifier: Apache-2.0
//
// A relaxed recursive transformer (Bae et al. 2024, arXiv 2410.20672): the layers are shared, and
// each use of one adds a low-rank product of its own to every projection.
#include "relative.hpp"
#include <mor/layers/relaxation/low_rank.hpp>

struct LowRankRelaxation : mor::Recursive<mor::Cycle> {
    using Relaxation = mor::LowRank;
};

int main(int argc, char** argv) {
    return relatives::run<LowRankRelaxation>(
        argc, argv, 2.1, relatives::small(6),
        {.sharing = {.num_recursions = 3}, .relaxation = {.rank = 4, .scale = 2.0}});
}
