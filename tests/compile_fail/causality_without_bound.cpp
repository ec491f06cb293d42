// SPDX-License-Identifier: Apache-2.0
//
// A causal rule without the number that a score must be above.
// expected-error: error: .*mor: CausalityPolicy: a router's Causality needs .* 'double bound\(\)
//     const' and 'void backward\(
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string>
#include <string_view>

struct Boundless {
    static constexpr std::string_view suffix = ".boundless";
    static constexpr bool predicts_apart = false;
    struct Options {};
    explicit Boundless(const Options& /*options*/) {}

    template <mor::Backend B>
    struct Weights {
        Weights(const std::string& /*prefix*/, mor::Index /*inputs*/, const Options& /*options*/) {}
        void initialize(mor::Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
    };
    template <mor::Backend B>
    struct Record {};

    template <mor::Backend B>
    void predict(mor::Context<B>& /*context*/, const Weights<B>& /*weights*/,
                 mor::ConstMatrixView<B> /*hidden*/, Record<B>& /*record*/) const {}
    template <mor::Backend B>
    mor::ConstVectorView<B> logits(mor::ConstMatrixView<B> scores,
                                   const Record<B>& /*record*/) const {
        return scores.flat();
    }
    template <mor::Backend B>
    void backward(mor::Context<B>& /*context*/, Weights<B>& /*weights*/,
                  mor::ConstMatrixView<B> /*hidden*/, mor::ConstMatrixView<B> /*scores*/,
                  mor::ConstIndexView<B> /*kept*/, const Record<B>& /*record*/,
                  const mor::StepGradient<B>& /*gradient*/, mor::MatrixView<B> /*dscores*/) const {}
};

struct Wrong : mor::DefaultArchitecture {
    using Router = mor::ExpertChoiceRouter<mor::LinearNetwork, Boundless>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
