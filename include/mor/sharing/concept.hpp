// SPDX-License-Identifier: Apache-2.0
//
// What a sharing strategy must be.
#pragma once

#include <mor/sharing/layout.hpp>

#include <concepts>
#include <string_view>

namespace mor {

template <class S>
concept HasLayout = requires(const S& sharing, Index num_layers) {
    { sharing.layout(num_layers) } -> std::same_as<Layout>;
};

/// A sharing strategy maps a number of unrolled layers to a Layout. `has_steps` says whether a
/// recursion step is one pass over the shared block, which routing needs (paper, section 2.1).
template <class S>
concept SharingPolicy = HasLayout<S> && requires { typename S::Options; } &&
                        std::constructible_from<S, const typename S::Options&> && requires {
                            { S::name } -> std::convertible_to<std::string_view>;
                            { S::has_steps } -> std::convertible_to<bool>;
                        };

}  // namespace mor
