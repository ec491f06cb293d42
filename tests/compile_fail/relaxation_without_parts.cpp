// SPDX-License-Identifier: Apache-2.0
//
// A relaxation names all parts of a block, or inherits them.
// expected-error: error: .*mor: RelaxationPolicy: Relaxation needs
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

struct Partial {
    static constexpr std::string_view name = "acme.partial";
    struct Options {};
    template <mor::Backend B>
    using Norm = mor::Unshared<mor::RmsNorm<B>>;
};

template <mor::Backend B>
struct Plain : mor::DecoderBlock<B> {
    Plain(const mor::LayerUses& uses, const mor::ModelConfig& config,
          const Partial::Options& /*options*/)
        : mor::DecoderBlock<B>{uses, config} {}
};

struct Wrong : mor::DefaultArchitecture {
    using Relaxation = Partial;
    template <mor::Backend B, class>
    using Block = Plain<B>;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
