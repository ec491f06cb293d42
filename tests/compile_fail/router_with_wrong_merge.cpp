// SPDX-License-Identifier: Apache-2.0
//
// A merge that does not say how a step joins.
// expected-error: error: .*mor: RouterPolicy: Router needs 'using Merge' = .* another MergePolicy
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Nothing {
    static constexpr bool uses_weights = false;
};

class Router {
public:
    static constexpr std::string_view name = "acme.wrong_merge";
    using Merge = Nothing;
    struct Options {};
    explicit Router(const Options& /*options*/) {}

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& /*step*/) const {
        return 0;
    }
};

struct Wrong : mor::DefaultArchitecture {
    using Router = ::Router;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
