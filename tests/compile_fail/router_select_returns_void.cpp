// SPDX-License-Identifier: Apache-2.0
//
// A router must say how many rows it kept.
// expected-error: error: .*mor: RouterPolicy: Router needs 'Index select\(.*, const StepView<B>&\)
//     const'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class KeepsCountToItself {
public:
    static constexpr std::string_view name = "acme.void";
    using Merge = mor::Replace;
    struct Options {};
    explicit KeepsCountToItself(const Options& /*options*/) {}

    template <mor::Backend B>
    void select(mor::Context<B>& /*context*/, const mor::StepView<B>& /*step*/) const {}
};

struct Wrong : mor::DefaultArchitecture {
    using Router = KeepsCountToItself;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
