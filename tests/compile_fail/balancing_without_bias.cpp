// SPDX-License-Identifier: Apache-2.0
//
// A way of balancing whose weights say nothing about the choice.
// expected-error: error: .*mor: BalancingPolicy: a router's Balancing needs 'Weights<B>' with .*
//     'ConstVectorView<B> bias\(\) const' and 'void reset\(\)'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Lopsided {
    static constexpr std::string_view suffix = ".lopsided";
    struct Options {};
    explicit Lopsided(const Options& /*options*/) {}

    template <mor::Backend B>
    struct Weights {
        explicit Weights(mor::Index /*num_steps*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
        void reset() {}
    };
    template <mor::Backend B>
    void backward(mor::Context<B>& /*context*/, Weights<B>& /*weights*/,
                  mor::ConstMatrixView<B> /*gate*/, mor::ConstIndexView<B> /*best*/,
                  const mor::StepGradient<B>& /*gradient*/, mor::MatrixView<B> /*dgate*/) const {}
    template <mor::Backend B>
    void after_update(Weights<B>& /*weights*/) const {}
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::TokenChoiceRouter<mor::LinearNetwork, Lopsided>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
