// SPDX-License-Identifier: Apache-2.0
//
// A router with weights must train them.
// expected-error: error: .*mor: RouterPolicy: Router needs 'void backward\(Context<B>&,
//     Weights<B>&, const StepView<B>&
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class Untrainable {
public:
    static constexpr std::string_view name = "acme.untrainable";
    using Merge = mor::Replace;
    using Options = mor::TokenChoice::Options;
    template <mor::Backend B>
    using Weights = mor::TokenChoice::Weights<B>;
    template <mor::Backend B>
    struct Record {};
    explicit Untrainable(const Options& /*options*/) {}

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const Weights<B>& /*weights*/,
                      const mor::StepView<B>& step, Record<B>& /*record*/) const {
        return step.num_candidates();
    }
};

struct Wrong : mor::DefaultArchitecture {
    using Router = Untrainable;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
