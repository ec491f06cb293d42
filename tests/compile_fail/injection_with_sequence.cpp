// SPDX-License-Identifier: Apache-2.0
//
// Nothing can be injected before a step where there are none.
// expected-error: error: .*mor: CanRoute: this Sharing has no recursion steps
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Wrong : mor::Recursive<mor::Sequence> {
    using Injection = mor::InputInjection;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
