// SPDX-License-Identifier: Apache-2.0
//
// The meeting point of attention layers and key-value storage. A layer computes its keys and
// values, or not, and attends to what the source shows it; who stores what is not its business.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/ops/attention.hpp>

#include <concepts>

namespace mor {

/// Keys and values [key rows, kv_heads * head_dim] and which of them each query row sees.
template <Backend B>
struct KeyValues {
    ConstActivationView<B> keys;
    ConstActivationView<B> values;
    KeyRanges<B> ranges;
};

/// Where the gradients of such keys and values add up: in elements, for several layers may add.
template <Backend B>
struct KeyValueGradients {
    MatrixView<B> keys;
    MatrixView<B> values;
};

/// One layer's access to keys and values during one pass.
template <class S, class B>
concept KeyValueSource = requires(S& source, Context<B>& context, ActivationView<B> rows) {
    // Whether this layer computes keys and values of its own for its rows.
    { source.computes() } -> std::same_as<bool>;
    // Hands over keys (already rotated) and values [rows, kv_heads * head_dim].
    { source.publish(context, rows, rows) };
    // What the layer's query rows may see, after publish().
    { source.visible(context) } -> std::same_as<KeyValues<B>>;
};

/// The same layer's access to their gradients.
template <class S, class B>
concept KeyValueGradientSource = requires(S& source, Context<B>& context) {
    { source.computes() } -> std::same_as<bool>;
    // Where to add the gradients of the keys and values that were visible.
    { source.visible(context) } -> std::same_as<KeyValueGradients<B>>;
    // Those of the keys and values that the layer computed, complete once it has added its share.
    // Only for layers that computed some; may be changed.
    { source.own(context) } -> std::same_as<KeyValueGradients<B>>;
};

}  // namespace mor
