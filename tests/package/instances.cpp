// SPDX-License-Identifier: Apache-2.0
//
// A published architecture whose code is in the compiled component.
#include <mor/instances.hpp>

#include <cstdio>
#include <vector>

int main() {
    mor::Cpu<float> cpu{{.threads = 1}};
    const mor::Model<mor::MoRExpert<>, mor::Cpu<float>> model{
        cpu, {.hidden_size = 16, .intermediate_size = 32}};
    const std::vector<mor::TokenId> prompt{1, 2, 3};
    const auto result = mor::generate(model, prompt, {.max_new_tokens = 4});
    std::printf("generated %d tokens\n", static_cast<int>(result.tokens.size()));
    return result.tokens.size() == 7 ? 0 : 1;
}
