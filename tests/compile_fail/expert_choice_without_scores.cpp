// SPDX-License-Identifier: Apache-2.0
//
// A network that scores nothing.
// expected-error: error: .*mor: RouterNetwork: a router's Network needs 'Weights<B>' with .*
//     'void forward\(
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string>
#include <string_view>

struct Silent {
    static constexpr std::string_view suffix = ".silent";
    struct Options {};
    template <mor::Backend B>
    struct Weights {
        struct Saved {};
        Weights(const std::string& /*prefix*/, mor::Index /*inputs*/, mor::Index /*outputs*/,
                const Options& /*options*/) {}
        void initialize(mor::Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
    };
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::ExpertChoiceRouter<Silent>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
