// SPDX-License-Identifier: Apache-2.0
//
// What is compiled once must link, and compute what is compiled here.
#include "unit/instances/chat.hpp"
#include <mor/instances.hpp>

#include <doctest/doctest.h>

#include <vector>

namespace {

/// The same architecture under another name, which is compiled in this file.
template <class A>
struct Renamed : A {};

template <class A, class B>
std::vector<mor::TokenId> generated(B& cpu) {
    const mor::Model<A, B> model{cpu,
                                 {.vocab_size = 97,
                                  .hidden_size = 32,
                                  .intermediate_size = 64,
                                  .num_layers = 8,
                                  .num_heads = 2,
                                  .num_kv_heads = 1,
                                  .head_dim = 16},
                                 {},
                                 5};
    const std::vector<mor::TokenId> prompt{5, 17, 3, 40};
    std::vector<mor::TokenId> tokens;
    for (const auto& token : mor::generate(model, prompt, {.max_new_tokens = 12}).tokens) {
        tokens.push_back(token.token);
    }
    return tokens;
}

}  // namespace

TEST_CASE_TEMPLATE("compiled architectures generate what architectures compiled here do", A,
                   mor::Vanilla, mor::Recursive<>, mor::MoRExpert<>, mor::MoRToken<>) {
    mor::instances::Float cpu{{.threads = 1}};
    CHECK(generated<A>(cpu) == generated<Renamed<A>>(cpu));
    mor::instances::Rounding rounding{{.threads = 1}};
    CHECK(generated<A>(rounding) == generated<Renamed<A>>(rounding));
}

int Chat::answer_length(int question) const {
    const std::vector<mor::TokenId> prompt{question};
    const auto result = mor::generate(model_, prompt, {.max_new_tokens = 6});
    return static_cast<int>(result.tokens.size()) - 1;
}

TEST_CASE("a model that a header only declares is a model") {
    mor::instances::Float cpu{{.threads = 1}};
    const mor::instances::MoRExpertModel model{cpu, {.hidden_size = 16, .intermediate_size = 32}};
    CHECK(Chat{model}.answer_length(3) == 6);
}
