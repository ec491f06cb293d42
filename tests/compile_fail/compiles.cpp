// SPDX-License-Identifier: Apache-2.0
//
// The control: without it, the other files of this folder might fail for want of an include path.
// expected-success
#include <mor/config.hpp>
#include <mor/core/backend.hpp>
#include <mor/core/tensor.hpp>

int main() {
    const mor::Tensor<float, 2> tensor{{2, 3}};
    return tensor.size() == 6 ? 0 : 1;
}
