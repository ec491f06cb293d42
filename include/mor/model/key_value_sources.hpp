// SPDX-License-Identifier: Apache-2.0
//
// Where the layers of one pass find keys and values, and their gradients: beside the layers in the
// trace, or in the cache.
#pragma once

#include <mor/cache/key_value_cache.hpp>
#include <mor/model/trace.hpp>
#include <mor/ops/gather_scatter.hpp>
#include <mor/ops/scale.hpp>

namespace mor::detail {

/// What an unrolled layer does about keys and values.
struct KeyUse {
    enum class Role { computes, reads, updates };

    Index layer = 0;
    Index key_layer = 0;  // whose entries it attends to; its own number if it computes
    Role role = Role::computes;

    template <class Cache>
    static KeyUse of(const Cache& cache, const Layout& layout, Index layer) {
        const Index key_layer = cache.key_layer(layout, layer);
        const Role other = updates_shared_keys<Cache> ? Role::updates : Role::reads;
        return {layer, key_layer, key_layer == layer ? Role::computes : other};
    }
    [[nodiscard]] bool computes() const { return role != Role::reads; }
};

/// Keys and values of a pass over whole sequences: they stay in the arena, beside their layer.
template <class A, Backend B>
struct TracedSource {
    Trace<A, B>& trace;
    KeyUse use;
    const Rows<B>& queries;
    const KeyRanges<B>& own_ranges;
    ConstIndexView<B> places;  // [queries] which rows of the key layer they are
    KeyRanges<B> shown = {};   // written by visible()
    Index stored = 0;          // written by publish(): entries of keys and values

    bool computes() const { return use.computes(); }
    void publish(Context<B>& context, ActivationView<B> keys, ActivationView<B> values) {
        auto& record = trace.at(use.layer);
        if (use.role == KeyUse::Role::updates) {
            const auto& owner = trace.at(use.key_layer);
            record.keys = updated(context, owner.keys, keys);
            record.values = updated(context, owner.values, values);
        } else {
            record.keys = keys;
            record.values = values;
        }
        stored = record.keys.rows();
    }
    KeyValues<B> visible(Context<B>& context) {
        const auto& owner = trace.at(use.role == KeyUse::Role::reads ? use.key_layer : use.layer);
        shown = use.role == KeyUse::Role::computes
                    ? own_ranges
                    : ops::visible_keys<B>(context, queries, trace.at(use.key_layer).rows);
        return {owner.keys, owner.values, shown};
    }

private:
    ActivationView<B> updated(Context<B>& context, ConstActivationView<B> shared,
                              ConstActivationView<B> own) {
        const ActivationView<B> result = context.activation_matrix(shared.rows(), shared.columns());
        ops::copy<B>(context, shared, result);
        ops::scatter_rows<B>(context, own, places, result);
        return result;
    }
};

/// Their gradients. Layers that read or update come later than the layer that computes, and so
/// earlier in the backward pass.
template <class A, Backend B>
class TracedGradients {
public:
    TracedGradients(Context<B>& context, Trace<A, B>& trace, const KeyUse& use, Index key_width)
        : record_{trace.at(use.layer)}, owner_{trace.at(use.key_layer)}, use_{use} {
        if (owner_.gradients.keys.data() == nullptr) {
            owner_.gradients = zeros(context, key_width);
        }
        visible_ = use.role == KeyUse::Role::updates ? zeros(context, key_width) : owner_.gradients;
    }

    bool computes() const { return use_.computes(); }
    KeyValueGradients<B> visible(Context<B>& /*context*/) { return visible_; }
    KeyValueGradients<B> own(Context<B>& context) {
        if (use_.role == KeyUse::Role::computes) {
            return visible_;
        }
        return {split(context, visible_.keys, owner_.gradients.keys),
                split(context, visible_.values, owner_.gradients.values)};
    }

private:
    KeyValueGradients<B> zeros(Context<B>& context, Index key_width) const {
        return {context.zero_matrix(owner_.rows.size(), key_width),
                context.zero_matrix(owner_.rows.size(), key_width)};
    }
    /// The rows that the layer had replaced are its own; all others belong to the owner.
    MatrixView<B> split(Context<B>& context, MatrixView<B> visible, MatrixView<B> owners) {
        const MatrixView<B> own = context.matrix(record_.places.size(), visible.columns());
        const MatrixView<B> none = context.zero_matrix(own.rows(), own.columns());
        ops::gather_rows<B>(context, visible, record_.places, own);
        ops::scatter_rows<B>(context, none, record_.places, visible);
        ops::scale<B>(context, visible, 1.0, owners, Write::accumulate);
        return own;
    }

    typename Trace<A, B>::Layer& record_;
    typename Trace<A, B>::Layer& owner_;
    KeyUse use_;
    KeyValueGradients<B> visible_;
};

/// Keys and values of a pass that continues sequences: they go into the cache.
template <Backend B>
struct CachedSource {
    KeyValueCache<B>& cache;
    KeyUse use;
    const Rows<B>& queries;
    KeyRanges<B> shown = {};
    Index stored = 0;

    bool computes() const { return use.computes(); }
    void publish(Context<B>& context, ActivationView<B> keys, ActivationView<B> values) {
        stored = -cache.num_entries(use.layer);
        if (use.role == KeyUse::Role::updates) {
            cache.follow(context, use.layer, use.key_layer);
            cache.replace(context, use.layer, queries, keys, values);
        } else {
            cache.append(context, use.layer, queries, keys, values);
        }
        stored += cache.num_entries(use.layer);
    }
    KeyValues<B> visible(Context<B>& context) {
        const Index layer = use.role == KeyUse::Role::reads ? use.key_layer : use.layer;
        const KeyValues<B> result = cache.visible(context, layer, queries);
        shown = result.ranges;
        return result;
    }
};

}  // namespace mor::detail
