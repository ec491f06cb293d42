// SPDX-License-Identifier: Apache-2.0
//
// A block without a gradient cannot be trained.
// expected-error: error: .*mor: BlockLayer: Block needs 'void backward\(Context<B>&, const Saved&,
//     const LayerInput<B>&
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

template <mor::Backend B>
class OneWay {
public:
    static constexpr std::string_view name = "acme.one_way";
    struct Saved {};
    OneWay(const mor::LayerUses& /*uses*/, const mor::ModelConfig& /*config*/) {}

    template <mor::KeyValueSource<B> Source>
    void forward(mor::Context<B>& /*context*/, mor::MatrixView<B> /*x*/,
                 const mor::LayerInput<B>& /*input*/, Source& /*source*/, Saved& /*saved*/) const {}
    void initialize(mor::Random& /*random*/, double /*deviation*/) {}
    template <class Visitor>
    void visit_parameters(Visitor&& /*visitor*/) {}
};

struct Wrong : mor::DefaultArchitecture {
    template <mor::Backend B, class Relaxation>
    using Block = OneWay<B>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
