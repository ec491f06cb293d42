// SPDX-License-Identifier: Apache-2.0
//
// Shapes and positions in messages.
#pragma once

#include <mor/core/types.hpp>

#include <span>
#include <string>

namespace mor {

/// "[3, 17]"
[[nodiscard]] inline std::string format_extents(std::span<const Index> extents) {
    std::string text = "[";
    for (const Index extent : extents) {
        text.append(text.size() > 1 ? ", " : "").append(std::to_string(extent));
    }
    return text.append("]");
}

}  // namespace mor
