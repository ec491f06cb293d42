// SPDX-License-Identifier: Apache-2.0
//
// The README's program: compose a Mixture-of-Recursions model, train it for a moment, generate.
// snippet-begin hello
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <cstdio>

struct MyMoR : mor::DefaultArchitecture {  // Middle-Cycle, recursion-wise cache, Llama blocks
    using Router = mor::TokenChoice;       // the one choice that is not the default
};

int main(int argc, char** argv) try {
    mor::Cpu<float> cpu;
    mor::Model<MyMoR, mor::Cpu<float>> model{
        cpu,
        {.hidden_size = 64, .intermediate_size = 192, .num_layers = 8},
        {.sharing = {.num_recursions = 3}}};
    const mor::io::ByteCorpus text{argc > 1 ? argv[1] : "LICENSE"};
    const mor::DataSplit data = mor::split(text, text.size() / 10, 128);
    mor::Trainer trainer{model, text, data.training, {.steps = 300, .sequence = 128}};
    trainer.run([](const mor::StepReport& report) {
        if (report.step % 100 == 0) {
            std::printf("step %d  loss %.2f\n", int(report.step), report.loss);
        }
        return true;
    });
    mor::Context<mor::Cpu<float>> context{cpu};
    const std::vector<mor::TokenId> prompt{'T', 'h', 'e', ' '};
    for (const auto& token : mor::generate(model, context, prompt, {.max_new_tokens = 40}).tokens) {
        std::printf("%c%d ", token.token, int(token.depth));  // each byte and its recursion depth
    }
    mor::save_model(model, "my_mor");
} catch (const mor::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
// snippet-end
