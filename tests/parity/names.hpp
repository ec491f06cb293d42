// SPDX-License-Identifier: Apache-2.0
//
// What the authors call things. Without routing they number the unrolled layers, and a shared
// layer's weights have the name of its first use. With expert choice a recursion step is one
// "top-level" layer, with token choice all steps together are one.
#pragma once

#include "parity/case.hpp"
#include <mor/sharing/layout.hpp>

#include <string>
#include <string_view>

namespace parity {

class Names {
public:
    Names(const Case& which, const mor::Layout& layout)
        : routing_{which.routing},
          relaxation_{which.relaxation},
          top_level_layers_{which.top_level_layers},
          layout_{layout} {}

    /// Our name of a parameter of theirs. Throws mor::Error or std::exception if it has none.
    [[nodiscard]] std::string parameter(std::string_view theirs) const;

    /// Their names of the hidden states after a layer outside the recursion, after a recursion
    /// step, and after the recursion; empty if they have none there.
    [[nodiscard]] std::string after_layer(Index layer) const;
    [[nodiscard]] std::string after_step(Index step) const;
    [[nodiscard]] std::string after_recursion() const;

private:
    /// `name` as a parameter of an unrolled layer: what uses do not share has the layer's number.
    [[nodiscard]] std::string of_use(std::string name, Index unrolled) const;

    Routing routing_;
    Relaxation relaxation_;
    Index top_level_layers_;
    const mor::Layout& layout_;
};

}  // namespace parity
