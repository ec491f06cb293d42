// SPDX-License-Identifier: Apache-2.0
//
// A looped language model with a learned exit gate (Zhu et al. 2025, arXiv 2510.25741, "Ouro"): the
// whole stack four times, a gate whose probabilities make an exit distribution, and a reward for
// its entropy. At inference a token exits when its distribution reaches a quantile. Here the states
// are averaged by that distribution, and the head runs once; Ouro averages the losses of four
// heads' outputs.
#include "relative.hpp"
#include <mor/routing/halting.hpp>

struct LoopedExitGate : mor::DefaultArchitecture {
    using Sharing = mor::Cycle;
    using Router = mor::ExitGate;
};

int main(int argc, char** argv) {
    return relatives::run<LoopedExitGate>(
        argc, argv, 2.1, relatives::small(8),
        {.sharing = {.num_recursions = 4},
         .router = {.rule = {.quantile = 0.8, .coefficient = 0.05}}});
}
