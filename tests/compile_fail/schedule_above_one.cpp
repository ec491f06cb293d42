// SPDX-License-Identifier: Apache-2.0
//
// No step takes more tokens than there are.
// expected-error: error: .*mor: SchedulePolicy: FixedCapacities needs one percentage a recursion
//     step, from 1 to 100
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Wrong : mor::DefaultArchitecture {
    using Schedule = mor::FixedCapacities<101, 67, 33>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
