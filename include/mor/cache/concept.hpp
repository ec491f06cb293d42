// SPDX-License-Identifier: Apache-2.0
//
// What a KV-cache policy must be.
#pragma once

#include <mor/core/types.hpp>
#include <mor/sharing/layout.hpp>

#include <concepts>
#include <string_view>

namespace mor {

/// A cache policy answers one question: whose keys and values does an unrolled layer attend to?
/// Either its own, or those of an earlier layer that stores them (paper, section 2.2.2). The same
/// answer holds in training, prefill and decoding.
template <class C>
concept CachePolicy =
    requires { typename C::Options; } && std::constructible_from<C, const typename C::Options&> &&
    requires(const C& cache, const Layout& layout, Index layer) {
        { C::name } -> std::convertible_to<std::string_view>;
        { cache.key_layer(layout, layer) } -> std::same_as<Index>;
    };

/// True for policies whose first step runs for every row that enters the recursion, even if the
/// router keeps fewer, so that later steps find keys of all of them.
template <class C>
inline constexpr bool shares_first_step = requires { requires C::shares_first_step; };

/// True for policies that do nothing unless layers share weights.
template <class C>
inline constexpr bool shares_keys_of_weights = requires { requires C::shares_keys_of_weights; };

/// True for policies in which a layer that attends to another's entries first replaces those of its
/// own rows.
template <class C>
inline constexpr bool updates_shared_keys = requires { requires C::updates_shared_keys; };

}  // namespace mor
