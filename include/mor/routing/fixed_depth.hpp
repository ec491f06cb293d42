// SPDX-License-Identifier: Apache-2.0
//
// No routing: every token takes every step. The plain recursive transformer. There is nothing to
// select: the model sees `keeps_every_token` and runs the unrolled stack.
#pragma once

#include <mor/routing/concept.hpp>

#include <tuple>

namespace mor {

class FixedDepth {
public:
    static constexpr std::string_view name = "fixed_depth";
    static constexpr bool keeps_every_token = true;
    using Merge = Replace;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    explicit FixedDepth(const Options& /*options*/ = {}) {}
};

}  // namespace mor
