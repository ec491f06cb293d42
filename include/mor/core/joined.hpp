// SPDX-License-Identifier: Apache-2.0
//
// Names put together from names, at compile time.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace mor {

/// The texts one after another: Joined<&base, &suffix>::text. (nvcc 13 loses references here.)
template <const std::string_view*... parts>
class Joined {
    static constexpr auto characters = [] {
        std::array<char, (parts->size() + ...)> all{};
        auto out = all.begin();
        ((out = std::copy(parts->begin(), parts->end(), out)), ...);
        return all;
    }();

public:
    static constexpr std::string_view text{characters.data(), characters.size()};
};

}  // namespace mor
