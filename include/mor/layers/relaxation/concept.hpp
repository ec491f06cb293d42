// SPDX-License-Identifier: Apache-2.0
//
// Relaxation: what the uses of shared weights do not share (Bae et al. 2024, "Relaxed Recursive
// Transformers"). A relaxation names the parts a decoder block is made of.
#pragma once

#include <mor/layers/layer_uses.hpp>

#include <concepts>
#include <string>
#include <string_view>

namespace mor {

/// A relaxation has a name, Options, and for each backend four parts:
/// - `Norm<B>`: `at(use)` is an RmsNorm,
/// - `Projection<B>`: `at(use)` multiplies as a Linear does, any ProductInput<B> to any
///   ProductOutput<B>,
/// - `Prompt<B>`: adds to the output of attention,
/// - `Output<B>`: changes the output of the block.
/// Inherit NoRelaxation and name what differs.
template <class R, class B>
concept RelaxationPolicy = requires {
    { R::name } -> std::convertible_to<std::string_view>;
    typename R::Options;
    typename R::template Norm<B>;
    typename R::template Projection<B>;
    typename R::template Prompt<B>;
    typename R::template Output<B>;
};

namespace detail {

/// A part of a block; only those that have options are given them.
template <class Part, class Options, class... Sizes>
[[nodiscard]] Part make_part(const LayerUses& uses, const std::string& name, const Options& options,
                             const Sizes&... sizes) {
    if constexpr (std::constructible_from<Part, const LayerUses&, const std::string&,
                                          const Sizes&..., const Options&>) {
        return Part{uses, name, sizes..., options};
    } else {
        return Part{uses, name, sizes...};
    }
}

}  // namespace detail
}  // namespace mor
