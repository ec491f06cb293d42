// SPDX-License-Identifier: Apache-2.0
//
// A backend has a name, as every choice has.
// expected-error: error: .*mor: Backend: the backend needs 'Element', 'Space' and a static 'name'
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Nameless {
    using Element = float;
    using Space = mor::HostSpace;
};

int main() {
    Nameless backend;
    const mor::Model<mor::DefaultArchitecture, Nameless> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
