// SPDX-License-Identifier: Apache-2.0
//
// The block is a slot, too.
// expected-error: error: .*mor: Architecture: an architecture must name 'template <mor::Backend B,
//     class
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Wrong {
    using Sharing = mor::Cycle;
    using Router = mor::ExpertChoice;
    using Schedule = mor::CapacitySchedule;
    using Cache = mor::RecursionWiseCache;
    using Relaxation = mor::NoRelaxation;
    using Injection = mor::NoInjection;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
