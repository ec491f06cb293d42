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

/// One layer of the stack. `forward` changes the hidden states [rows, hidden] in place and fills
/// `Saved`; `backward` turns the gradient of its output into that of its input, in place.
template <class K, class B>
concept BlockLayer =
    Backend<B> && requires { typename K::Saved; } &&
    std::constructible_from<K, const std::string&, const ModelConfig&> &&
    requires(K& block, const K& fixed, Context<B>& context, MatrixView<B> x,
             ConstIndexView<B> positions, const Rotary<B>& rotary, typename K::Saved& saved,
             detail::AnyKeyValueSource<B>& source, const KeyValueGradients<B>& gradients,
             Random& random, detail::AnyVisitor visitor) {
        { K::name } -> std::convertible_to<std::string_view>;
        fixed.forward(context, x, positions, rotary, source, saved);
        block.backward(context, saved, rotary, gradients, true, x);
        block.initialize(random, 0.02);
        block.visit_parameters(visitor);
    };

}  // namespace mor
