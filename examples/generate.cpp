// SPDX-License-Identifier: Apache-2.0
//
// Continues a prompt with a saved byte model of any published architecture.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <cstdio>
#include <variant>

using Architectures = mor::ArchitectureList<mor::Vanilla, mor::Recursive<>, mor::MoRExpert<>,
                                            mor::MoRToken<>, mor::MoRExpert<mor::Cycle>>;

int main(int argc, char** argv) try {
    if (argc != 3) {
        std::fprintf(stderr, "usage: generate MODEL_DIRECTORY PROMPT\n");
        return 2;
    }
    mor::Cpu<float> cpu;
    const auto any = mor::load_any<Architectures>(cpu, argv[1]);
    std::visit(
        [&](const auto& model) {
            const auto result = mor::generate(model, mor::io::to_tokens(argv[2]),
                                              {.max_new_tokens = 400,
                                               .sampling = {.temperature = 0.8, .top_p = 0.95},
                                               .on_token = [](const mor::GeneratedToken& token) {
                                                   std::putchar(token.token);
                                                   return true;
                                               }});
            std::printf("\n\n%zu tokens, %lld bytes of keys and values\n", result.tokens.size(),
                        static_cast<long long>(result.cache_bytes));
        },
        any);
} catch (const mor::Error& error) {
    std::fprintf(stderr, "generate: %s\n", error.what());
    return 1;
}
