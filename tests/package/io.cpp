// SPDX-License-Identifier: Apache-2.0
#include <mor/io/json.hpp>
#include <mor/mor.hpp>

#include <cstdio>
#include <string>
#include <tuple>

struct Options {
    int depth = 3;

    static constexpr auto fields() { return std::tuple{mor::Field{"depth", &Options::depth}}; }
};

int main() {
    const std::string text = mor::io::to_json(Options{}).dump();
    std::puts(text.c_str());
    return text == R"({"depth":3})" ? 0 : 1;
}
