// SPDX-License-Identifier: Apache-2.0
//
// The control of the files that name a wrong policy: the same program with right ones.
// expected-success
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class EveryToken {
public:
    static constexpr std::string_view name = "acme.every_token";
    using Merge = mor::Replace;
    struct Options {};
    explicit EveryToken(const Options& /*options*/) {}

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        for (mor::Index i = 0; i < step.num_candidates(); ++i) {
            step.kept[i] = i;
        }
        return step.num_candidates();
    }
};

struct Right : mor::DefaultArchitecture {
    using Router = EveryToken;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Right, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
