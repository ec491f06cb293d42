// SPDX-License-Identifier: Apache-2.0
//
// The name of a router tells its network.
// expected-error: error: .*mor: RouterNetwork: a router's Network needs 'static constexpr
//     std::string_view suffix' and an aggregate 'Options'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Nameless {
    using Options = mor::LinearNetwork::Options;
    template <mor::Backend B>
    using Weights = mor::LinearNetwork::Weights<B>;
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::ExpertChoiceRouter<Nameless>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
