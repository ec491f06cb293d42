// SPDX-License-Identifier: Apache-2.0
//
// Options may be empty, but they must be there.
// expected-error: error: .*mor: CausalityPolicy: a router's Causality needs 'static constexpr
//     std::string_view suffix', an aggregate 'Options'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Unchangeable {
    static constexpr std::string_view suffix = ".unchangeable";
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::ExpertChoiceRouter<mor::LinearNetwork, Unchangeable>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
