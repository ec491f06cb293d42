// SPDX-License-Identifier: Apache-2.0
//
// A sharing says whether its steps can be routed.
// expected-error: error: .*mor: SharingPolicy: Sharing needs .*'static constexpr bool has_steps'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class Unclear {
public:
    static constexpr std::string_view name = "acme.unclear";
    using Options = mor::RecursionOptions;
    explicit Unclear(const Options& options) : options_{options} {}

    [[nodiscard]] mor::Layout layout(mor::Index num_layers) const {
        return mor::Cycle{options_}.layout(num_layers);
    }

private:
    Options options_;
};

struct Wrong : mor::DefaultArchitecture {
    using Sharing = Unclear;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
