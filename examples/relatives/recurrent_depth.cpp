// SPDX-License-Identifier: Apache-2.0
//
// A depth-recurrent model (Geiping et al. 2025, arXiv 2502.05171, "Huginn"): prelude, recurrent
// core, coda. The prelude's output is injected before every step through an adapter, and training
// draws a random depth each time. Here gradients go through all steps, and the state begins as the
// prelude's output instead of as noise.
#include "relative.hpp"
#include <mor/routing/random_depth.hpp>
#include <mor/sharing/sandwich.hpp>

struct RecurrentDepth : mor::DefaultArchitecture {
    using Sharing = mor::Sandwich;
    using Router = mor::RandomDepth;
    using Injection = mor::InputInjection;
};

int main(int argc, char** argv) {
    return relatives::run<RecurrentDepth>(
        argc, argv, 2.1, relatives::small(8),
        {.sharing = {.prelude = 1, .coda = 1, .num_recursions = 6}, .router = {.mean = 3.0}});
}
