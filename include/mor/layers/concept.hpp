// SPDX-License-Identifier: Apache-2.0
//
// What a block must be to fill the Block slot of an architecture.
#pragma once

#include <mor/core/random.hpp>
#include <mor/layers/key_values.hpp>
#include <mor/layers/layer_uses.hpp>
#include <mor/layers/relaxation/none.hpp>
#include <mor/model/config.hpp>

#include <concepts>
#include <string_view>

namespace mor {

namespace detail {

/// Sources for checking concepts; never run.
template <Backend B>
struct AnyKeyValueSource {
    bool computes();
    void publish(Context<B>&, ActivationView<B>, ActivationView<B>);
    KeyValues<B> visible(Context<B>&);
};
template <Backend B>
struct AnyKeyValueGradientSource {
    bool computes();
    KeyValueGradients<B> visible(Context<B>&);
    KeyValueGradients<B> own(Context<B>&);
};

struct AnyVisitor {
    template <class P>
    void operator()(P&) const {}
};

}  // namespace detail

template <class K, class B>
concept HasBlockForward =
    requires { typename K::Saved; } &&
    requires(const K& block, Context<B>& context, MatrixView<B> x, const LayerInput<B>& input,
             detail::AnyKeyValueSource<B>& source,
             typename K::Saved& saved) { block.forward(context, x, input, source, saved); };

template <class K, class B>
concept HasBlockBackward =
    requires { typename K::Saved; } &&
    requires(K& block, Context<B>& context, const typename K::Saved& saved,
             const LayerInput<B>& input, detail::AnyKeyValueGradientSource<B>& source,
             MatrixView<B> dx) { block.backward(context, saved, input, source, dx); };

/// One layer of the stack, constructed from (const LayerUses&, const ModelConfig&) and, if it can
/// be relaxed, the relaxation's Options. `forward` changes the hidden states [rows, hidden] in
/// place and fills `Saved`; `backward` turns the gradient of its output into that of its input, in
/// place.
template <class K, class B>
concept BlockLayer = Backend<B> && HasBlockForward<K, B> && HasBlockBackward<K, B> &&
                     requires(K& block, Random& random, detail::AnyVisitor visitor) {
                         { K::name } -> std::convertible_to<std::string_view>;
                         block.initialize(random, 0.02);
                         block.visit_parameters(visitor);
                     };

/// A block that can be built with the options of relaxation R, or needs none and R is none.
template <class K, class R>
concept BlockForRelaxation =
    std::constructible_from<K, const LayerUses&, const ModelConfig&, const typename R::Options&> ||
    (std::constructible_from<K, const LayerUses&, const ModelConfig&> &&
     std::same_as<R, NoRelaxation>);

}  // namespace mor
