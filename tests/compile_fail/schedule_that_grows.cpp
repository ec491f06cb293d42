// SPDX-License-Identifier: Apache-2.0
//
// Tokens that left a step are not candidates of the next.
// expected-error: error: .*mor: SchedulePolicy: FixedCapacities needs one percentage a recursion
//     step, from 1 to 100, none larger than the one before
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Wrong : mor::DefaultArchitecture {
    using Schedule = mor::FixedCapacities<50, 75, 25>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
