// SPDX-License-Identifier: Apache-2.0
//
// What is injected must pass gradients on.
// expected-error: error: .*mor: InjectionPolicy: Injection needs
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct OneWay : mor::NoInjection {
    static constexpr std::string_view name = "acme.one_way";
    static constexpr bool is_empty = false;
    template <mor::Backend B>
    struct Weights {
        struct Saved {};
        Weights(const mor::ModelConfig& /*config*/, mor::Index /*num_steps*/,
                const Options& /*options*/) {}
        void initialize(mor::Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
        void forward(mor::Context<B>& /*context*/, mor::Index /*step*/,
                     mor::ConstMatrixView<B> /*entered*/, mor::MatrixView<B> /*x*/,
                     Saved& /*saved*/) const {}
    };
};

struct Wrong : mor::DefaultArchitecture {
    using Injection = OneWay;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
