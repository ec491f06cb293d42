// SPDX-License-Identifier: Apache-2.0
#include <mor/mor.hpp>
#include <mor/version.hpp>

#include <cstdio>

int main() {
    const mor::Tensor<float, 2> tensor{{2, 3}};
    std::printf("mor %d.%d.%d\n", MOR_VERSION_MAJOR, MOR_VERSION_MINOR, MOR_VERSION_PATCH);
    return tensor.size() == 6 ? 0 : 1;
}
