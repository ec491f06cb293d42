// SPDX-License-Identifier: Apache-2.0
//
// The README's program on the GPU. nvcc compiles it; see docs/cuda.md.
// snippet-begin hello
#include <mor/backends/cuda/cuda.hpp>
#include <mor/io/byte_corpus.hpp>
#include <mor/mor.hpp>

#include <cstdio>

struct MyMoR : mor::DefaultArchitecture {
    using Router = mor::TokenChoice;
};

int main() try {
    mor::Cuda<float> gpu;
    mor::Model<MyMoR, mor::Cuda<float>> model{gpu, {.hidden_size = 64, .intermediate_size = 192}};
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
    const mor::cuda::DeviceMemory memory = mor::cuda::DeviceSpace::memory();
    std::printf("\n%lld bytes of the GPU's memory at most\n",
                static_cast<long long>(memory.most_used));
} catch (const mor::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());  // without a GPU it says so
    return 1;
}
// snippet-end
