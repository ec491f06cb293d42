// SPDX-License-Identifier: Apache-2.0
//
// Sequence has no step that a token could leave.
// expected-error: error: .*mor: CanRoute: this Sharing has no recursion steps, so Router must keep
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Wrong : mor::DefaultArchitecture {
    using Sharing = mor::Sequence;
    using Router = mor::ExpertChoice;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
