// SPDX-License-Identifier: Apache-2.0
//
// Mixture-of-Depths (Raposo et al. 2024, arXiv 2404.02258): layers without shared weights, every
// other one routed. A router lets an eighth of the tokens through and gates what they get; each
// routed layer chooses among all tokens anew.
#include "relative.hpp"
#include <mor/sharing/alternating.hpp>

struct MixtureOfDepths : mor::DefaultArchitecture {
    using Sharing = mor::Alternating;
    using Router =
        mor::ExpertChoiceRouter<mor::LinearNetwork, mor::AuxiliaryLoss, mor::Independent>;
};

int main(int argc, char** argv) {
    return relatives::run<MixtureOfDepths>(
        argc, argv, 1.95, relatives::small(6),
        {.router = {.gate = mor::GateFunction::identity, .causality = {.coefficient = 0.01}},
         .schedule = {.capacities = {0.125, 0.125, 0.125}}});
}
