// SPDX-License-Identifier: Apache-2.0
//
// The README's program: compose a Mixture-of-Recursions model, train it for a moment, generate.
// snippet-begin hello
#include <mor/io/byte_corpus.hpp>
#include <mor/mor.hpp>

#include <cstdio>

struct MyMoR : mor::DefaultArchitecture {  // Middle-Cycle, recursion-wise cache, Llama blocks
    using Router = mor::TokenChoice;       // the one choice that is not the default
};

int main() {
    mor::Cpu<float> cpu;
    mor::Model<MyMoR, mor::Cpu<float>> model{cpu, {.hidden_size = 64, .intermediate_size = 192}};
    const mor::io::ByteCorpus text{"LICENSE"};
    const mor::TokenRange training = mor::split(text, text.size() / 10, 128).training;
    mor::Trainer trainer{model, text, training, {.steps = 300, .sequence = 128}};
    trainer.run([](const mor::StepReport& report) {
        if (report.step % 100 == 0) {
            std::printf("loss %.2f\n", report.loss);
        }
    });
    const auto result = mor::generate(model, mor::io::to_tokens("The "), {.max_new_tokens = 40});
    for (const mor::GeneratedToken& token : result.tokens) {
        std::printf("%c%d ", token.token, static_cast<int>(token.depth));
    }
}
// snippet-end
