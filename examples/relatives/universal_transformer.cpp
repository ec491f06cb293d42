// SPDX-License-Identifier: Apache-2.0
//
// Universal Transformer (Dehghani et al. 2018, arXiv 1807.03819): one layer again and again, with a
// mark of the step added each time; adaptive computation time ends a token's recursion, and a
// ponder cost makes that happen. Rotary positions stand in for the position embedding.
#include "relative.hpp"
#include <mor/routing/halting.hpp>

struct UniversalTransformer : mor::DefaultArchitecture {
    using Sharing = mor::Cycle;
    using Router = mor::AdaptiveComputationTime;
    using Injection = mor::StepEmbedding;
};

int main(int argc, char** argv) {
    return relatives::run<UniversalTransformer>(
        argc, argv, 2.0, relatives::small(6),
        {.sharing = {.num_recursions = 6},
         .router = {.rule = {.threshold = 0.99, .coefficient = 0.01}}});
}
