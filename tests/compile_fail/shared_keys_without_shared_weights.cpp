// SPDX-License-Identifier: Apache-2.0
//
// What was asked for would not happen: layers that share no weights would share no keys.
// expected-error: error: .*mor: CachePolicy: this Cache shares the keys of layers that share
//     weights
#include <mor/backends/reference/reference.hpp>
#include <mor/cache/recursive_sharing.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

struct Wrong : mor::Vanilla {
    using Cache = mor::RecursiveSharingCache;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
