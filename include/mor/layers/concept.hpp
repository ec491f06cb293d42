// SPDX-License-Identifier: Apache-2.0
//
// What a block must be to fill the Block slot of an architecture.
#pragma once

#include <mor/core/random.hpp>
#include <mor/layers/key_values.hpp>
#include <mor/layers/rotary.hpp>
#include <mor/model/config.hpp>

#include <concepts>
#include <string>
#include <string_view>

namespace mor {

namespace detail {

/// A source for checking concepts; never run.
template <Backend B>
struct AnyKeyValueSource {
    bool owns();
    void publish(Context<B>&, MatrixView<B>, MatrixView<B>);
    KeyValues<B> visible(Context<B>&);
};

struct AnyVisitor {
    template <class P>
    void operator()(P&) const {}
};

}  // namespace detail

template <class K, class B>
concept HasBlockForward = requires { typename K::Saved; } &&
                          requires(const K& block, Context<B>& context, MatrixView<B> x,
                                   ConstIndexView<B> positions, const Rotary<B>& rotary,
                                   detail::AnyKeyValueSource<B>& source, typename K::Saved& saved) {
                              block.forward(context, x, positions, rotary, source, saved);
                          };

template <class K, class B>
concept HasBlockBackward =
    requires { typename K::Saved; } &&
    requires(K& block, Context<B>& context, const typename K::Saved& saved, const Rotary<B>& rotary,
             const KeyValueGradients<B>& gradients, bool owns,
             MatrixView<B> dx) { block.backward(context, saved, rotary, gradients, owns, dx); };

/// One layer of the stack. `forward` changes the hidden states [rows, hidden] in place and fills
/// `Saved`; `backward` turns the gradient of its output into that of its input, in place.
template <class K, class B>
concept BlockLayer = Backend<B> && HasBlockForward<K, B> && HasBlockBackward<K, B> &&
                     std::constructible_from<K, const std::string&, const ModelConfig&> &&
                     requires(K& block, Random& random, detail::AnyVisitor visitor) {
                         { K::name } -> std::convertible_to<std::string_view>;
                         block.initialize(random, 0.02);
                         block.visit_parameters(visitor);
                     };

}  // namespace mor
