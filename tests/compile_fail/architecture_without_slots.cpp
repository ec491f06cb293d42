// SPDX-License-Identifier: Apache-2.0
//
// An architecture inherits the slots that it does not name.
// expected-error: error: .*mor: Architecture: .* must name Sharing, Router, Schedule, Cache,
//     Relaxation and Injection
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Wrong {
    using Sharing = mor::Cycle;
    using Router = mor::ExpertChoice;
    template <mor::Backend B, class Relaxation>
    using Block = mor::DecoderBlock<B, Relaxation>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
