// SPDX-License-Identifier: Apache-2.0
//
// A token on its way through a model that is served, and what the parts of a call say about the
// rows of a batch.
#pragma once

#include <mor/model/model.hpp>
#include <mor/serve/paged_cache.hpp>

#include <algorithm>
#include <iterator>
#include <span>
#include <vector>

namespace mor {

struct ServedRow {
    SequenceTables* tables = nullptr;
    TokenId token = 0;
    Index position = 0;
    Index max_depth = DepthControl::unlimited;
    Index place = 0;          // where its states rest
    Index depth = 0;          // steps that it took so far
    bool goes_on = false;     // whether it takes the step of number `depth`
    bool gives_keys = false;  // runs that step for its keys and values only
    double weight = 1;        // of the step to come
    double first_weight = 1;  // of step 0
};

/// The rows of one call.
using ServedBatch = std::span<ServedRow* const>;

namespace detail {

/// Routers that keep something of a row from one step to the next, beside its depth, say so with
/// `static constexpr bool keeps_row_state = true`; those that decide a row's depth in step 0 with
/// `decides_in_first_step`.
template <class R>
inline constexpr bool keeps_row_state = requires { requires R::keeps_row_state; };
template <class R>
inline constexpr bool decides_in_first_step = requires { requires R::decides_in_first_step; };

/// Blocks that compute the same for all uses of their weights, unless a relaxation says otherwise,
/// say so with `static constexpr bool ignores_use = true`; calls may then mix recursion steps.
template <class Block>
inline constexpr bool ignores_use = requires { requires Block::ignores_use; };

template <class T, class Function>
[[nodiscard]] std::vector<T> collect(ServedBatch rows, Function&& function) {
    std::vector<T> values;
    values.reserve(rows.size());
    std::transform(rows.begin(), rows.end(), std::back_inserter(values),
                   [&](const ServedRow* row) { return function(*row); });
    return values;
}
template <Backend B>
[[nodiscard]] IndexView<B> on_device(Context<B>& context, const std::vector<Index>& values) {
    const IndexView<B> view = context.indices(std::ssize(values));
    from_host(view, values);
    return view;
}
template <Backend B>
[[nodiscard]] ConstIndexView<B> indices_of(Context<B>& context, ServedBatch rows,
                                           Index ServedRow::*member) {
    return on_device(context,
                     collect<Index>(rows, [&](const ServedRow& row) { return row.*member; }));
}
template <Backend B>
[[nodiscard]] ConstVectorView<B> numbers_of(Context<B>& context, ServedBatch rows,
                                            double ServedRow::*member) {
    using Element = typename B::Element;
    const VectorView<B> view = context.vector(std::ssize(rows));
    from_host(view, collect<Element>(rows, [&](const ServedRow& row) {
                  return static_cast<Element>(row.*member);
              }));
    return view;
}
/// 0, 1, ..., count - 1
template <Backend B>
[[nodiscard]] ConstIndexView<B> first_indices(Context<B>& context, Index count) {
    const IndexView<B> view = context.indices(count);
    ops::number_rows<B>(context, view);
    return view;
}

}  // namespace detail

/// What the engine can serve: a router whose causal decision about a row depends on the row and
/// the step alone.
template <class A, class B>
concept ServableArchitecture = Architecture<A, B> && !detail::keeps_row_state<typename A::Router> &&
                               !reconsiders_every_token<typename A::Router>;

namespace detail {

template <class A, class B>
consteval bool explain_servable() {
    static_assert(ServableArchitecture<A, B>,
                  "mor: ServableArchitecture: an engine serves routers that decide about each row "
                  "and step alone; not halting routers (keeps_row_state), and none that "
                  "reconsiders_every_token. See docs/serving.md");
    return true;
}

}  // namespace detail

}  // namespace mor
