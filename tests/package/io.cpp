// SPDX-License-Identifier: Apache-2.0
//
// What a user does first: compose, train, save, load, generate. Compiled with the warnings of
// somebody who is stricter than most.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>

struct Mine : mor::DefaultArchitecture {
    using Router = mor::TokenChoice;
};

using Cpu = mor::Cpu<float>;

template <class A>
bool survives_training_and_saving(Cpu& cpu, const mor::io::ByteCorpus& text) {
    mor::Model<A, Cpu> model{cpu, {.hidden_size = 16, .intermediate_size = 32}};
    mor::Trainer trainer{model, text, {0, text.size()}, {.steps = 2, .batch = 2, .sequence = 32}};
    trainer.run([](const mor::StepReport&) {});
    mor::save_model(model, "consumer_model");
    const auto loaded = mor::load_model<A>(cpu, "consumer_model");
    const auto prompt = mor::io::to_tokens("int main");
    const auto before = mor::generate(model, prompt, {.max_new_tokens = 8});
    const auto after = mor::generate(loaded, prompt, {.max_new_tokens = 8});
    return std::ranges::equal(before.tokens, after.tokens, {}, &mor::GeneratedToken::token,
                              &mor::GeneratedToken::token);
}

int main() {
    std::ofstream{"consumer_text"} << "A text that is longer than a window of thirty-two tokens.";
    Cpu cpu{{.threads = 2}};
    const mor::io::ByteCorpus text{"consumer_text"};
    const bool good = survives_training_and_saving<Mine>(cpu, text) &&
                      survives_training_and_saving<mor::MoRExpert<>>(cpu, text);
    std::puts(good ? "trained, saved, loaded, generated" : "the loaded model is another one");
    return good ? 0 : 1;
}
