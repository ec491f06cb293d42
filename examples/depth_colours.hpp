// SPDX-License-Identifier: Apache-2.0
//
// Bytes on a terminal, coloured by how many recursion steps each took.
#pragma once

#include <mor/core/types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <unistd.h>

namespace examples {

[[nodiscard]] inline bool is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

inline constexpr std::string_view plain = "\033[0m";

/// Depth 0, of a prompt's last byte or of a model without steps, has no colour.
[[nodiscard]] inline std::string_view colour_of(mor::Index depth) {
    constexpr std::array colours{
        plain, std::string_view{"\033[38;5;75m"}, std::string_view{"\033[38;5;214m"},
        std::string_view{"\033[38;5;203m"}, std::string_view{"\033[38;5;199m"}};
    return colours[std::min<std::size_t>(static_cast<std::size_t>(depth), colours.size() - 1)];
}

/// Text on one line whatever the byte: '.' for what a terminal would not show.
[[nodiscard]] inline char visible(mor::TokenId byte) {
    return byte >= 32 && byte < 127 ? static_cast<char>(byte) : '.';
}

/// Prints tokens, which have a `token` and a `depth`, each byte coloured by its depth; without a
/// terminal, the depths stand below each line.
template <class Tokens>
void print_depths(const Tokens& tokens) {
    std::string text;
    std::string depths;
    const auto flush = [&] {
        std::printf("    %s\n", text.c_str());
        if (depths.find_first_not_of("0 ") != std::string::npos) {
            std::printf("    %s\n", depths.c_str());
        }
        text.clear();
        depths.clear();
    };
    for (const auto& token : tokens) {
        if (token.token == '\n') {
            flush();
            continue;
        }
        if (is_terminal()) {
            text += colour_of(token.depth);
        } else {
            depths += static_cast<char>('0' + token.depth);
        }
        text += visible(token.token);
    }
    flush();
    if (is_terminal()) {
        std::printf("%s", std::string{plain}.c_str());
    }
}

}  // namespace examples
