// SPDX-License-Identifier: Apache-2.0
//
// An observer that can be called with nothing that is shown.
// expected-error: error: .*mor: ObserverPolicy: an observer must be callable with
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

int main() {
    mor::Reference<float> backend;
    const mor::Model<mor::Vanilla, mor::Reference<float>> model{backend};
    mor::Context<mor::Reference<float>> context{backend};
    mor::Trace<mor::Vanilla, mor::Reference<float>> trace;
    model.forward(context, {}, {}, trace, [](int) {});
}
