// SPDX-License-Identifier: Apache-2.0
//
// The name is what a checkpoint calls the router.
// expected-error: error: .*mor: RouterPolicy: Router needs 'static constexpr std::string_view name'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class Nameless {
public:
    using Merge = mor::Replace;
    struct Options {};
    explicit Nameless(const Options& /*options*/) {}

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        return step.num_candidates();
    }
};

struct Wrong : mor::DefaultArchitecture {
    using Router = Nameless;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
