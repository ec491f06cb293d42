// SPDX-License-Identifier: Apache-2.0
//
// Options may be empty, but they must be there.
// expected-error: error: .*mor: RouterPolicy: Router needs an aggregate 'Options' and a constructor
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class NoOptions {
public:
    static constexpr std::string_view name = "acme.no_options";
    using Merge = mor::Replace;

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        return step.num_candidates();
    }
};

struct Wrong : mor::DefaultArchitecture {
    using Router = NoOptions;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
