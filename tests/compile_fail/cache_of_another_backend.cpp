// SPDX-License-Identifier: Apache-2.0
//
// Keys and values in double for a model in float.
// expected-error: error: .*mor: CachePolicy: the key-value cache belongs to another backend than
//     the model
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

int main() {
    using B = mor::Reference<float>;
    B backend;
    const mor::Model<mor::MoRExpert<>, B> model{backend};
    mor::Context<B> context{backend};
    mor::Trace<mor::MoRExpert<>, B> trace;
    mor::KeyValueCache<mor::Reference<double>> cache{12, 1, 64};
    model.extend(context, {}, cache, trace);
}
