// SPDX-License-Identifier: Apache-2.0
//
// A cache policy answers whose keys a layer reads.
// expected-error: error: .*mor: CachePolicy: Cache needs .*'Index key_layer\(const Layout&, Index
//     layer\) const'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class NoAnswer {
public:
    static constexpr std::string_view name = "acme.no_answer";
    struct Options {};
    explicit NoAnswer(const Options& /*options*/) {}
};

struct Wrong : mor::DefaultArchitecture {
    using Cache = NoAnswer;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
