// SPDX-License-Identifier: Apache-2.0
//
// In a sequence no step is a pass over the whole block, so tokens cannot leave after one.
// expected-error: error: .*mor: CanRoute: this Sharing has no recursion steps
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Wrong : mor::DefaultArchitecture {
    using Sharing = mor::Sequence;
    using Router = mor::TokenChoice;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
