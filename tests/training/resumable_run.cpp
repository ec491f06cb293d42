// SPDX-License-Identifier: Apache-2.0
//
// A training run that can be killed at any moment: it continues from its newest checkpoint, and
// says on standard output what it is about to do. Started by kill_and_resume.py.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

namespace {

using Cpu = mor::Cpu<float>;
using A = mor::MoRExpert<>;

constexpr mor::Index steps_between_checkpoints = 3;

void run(const std::filesystem::path& text, const std::filesystem::path& checkpoints,
         mor::Index steps, const std::filesystem::path& result) {
    const mor::io::ByteCorpus corpus{text};
    Cpu cpu{{.threads = 2}};
    const mor::ModelConfig config{.hidden_size = 64,
                                  .intermediate_size = 128,
                                  .num_layers = 5,
                                  .num_heads = 4,
                                  .num_kv_heads = 2,
                                  .head_dim = 16,
                                  .max_positions = 64};
    mor::Model<A, Cpu> model{cpu, config, {.schedule = {.warmup_steps = steps / 2}}, 1};
    const mor::TrainerOptions options{
        .steps = steps,
        .batch = 4,
        .sequence = 32,
        .micro_batches = 2,
        .seed = 2,
        .schedule = {.warmup_steps = steps / 10, .cooldown_steps = steps / 5}};
    mor::Trainer trainer{model, corpus, {0, corpus.size()}, options};
    if (const auto latest = mor::latest_checkpoint(checkpoints)) {
        mor::resume_training(trainer, *latest);
    }
    std::cout << "begin " << trainer.completed_steps() << std::endl;
    trainer.run([&](const mor::StepReport& report) {
        std::cout << "step " << report.step << std::endl;
        if (report.step % steps_between_checkpoints == 0) {
            std::cout << "saving " << report.step << std::endl;
            mor::save_checkpoint(trainer, checkpoints);
        }
        return true;
    });
    mor::save_model(model, result);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) {
        std::cerr << "usage: resumable_run TEXT CHECKPOINTS STEPS RESULT\n";
        return 2;
    }
    try {
        run(argv[1], argv[2], std::stol(argv[3]), argv[4]);
    } catch (const std::exception& error) {
        std::cerr << "resumable_run: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
