// SPDX-License-Identifier: Apache-2.0
//
// A router must decide.
// expected-error: error: .*mor: RouterPolicy: Router needs 'Index select\(.*, const StepView<B>&\)
//     const'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class NoDecision {
public:
    static constexpr std::string_view name = "acme.no_decision";
    using Merge = mor::Replace;
    struct Options {};
    explicit NoDecision(const Options& /*options*/) {}
};

struct Wrong : mor::DefaultArchitecture {
    using Router = NoDecision;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
