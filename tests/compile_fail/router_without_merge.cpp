// SPDX-License-Identifier: Apache-2.0
//
// A router says how a step's result joins the stream.
// expected-error: error: .*mor: RouterPolicy: Router needs 'using Merge' = mor::Replace,
//     mor::GateEachStep
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class NoMerge {
public:
    static constexpr std::string_view name = "acme.no_merge";
    struct Options {};
    explicit NoMerge(const Options& /*options*/) {}

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        return step.num_candidates();
    }
};

struct Wrong : mor::DefaultArchitecture {
    using Router = NoMerge;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
