// SPDX-License-Identifier: Apache-2.0
//
// The name of a router tells its parts.
// expected-error: error: .*mor: BalancingPolicy: a router's Balancing needs 'static constexpr
//     std::string_view suffix', an aggregate 'Options'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Nameless : mor::BalancingLoss {
    using mor::BalancingLoss::BalancingLoss;

private:
    using mor::BalancingLoss::suffix;
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::TokenChoiceRouter<mor::LinearNetwork, Nameless>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
