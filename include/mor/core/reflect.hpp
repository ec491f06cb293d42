// SPDX-License-Identifier: Apache-2.0
//
// Names for the fields of an aggregate, written once beside it, so that reading, writing and
// "did you mean" need no code of their own.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mor {

/// One named field: `Field{"alpha", &Options::alpha}`.
template <class Owner, class T>
struct Field {
    std::string_view name;
    T Owner::*member;
};
// clang 16 deduces no arguments of aggregates by itself.
template <class Owner, class T>
Field(std::string_view, T Owner::*) -> Field<Owner, T>;

/// An aggregate with `static constexpr auto fields()` returning a tuple of Field.
template <class T>
concept Reflected = requires { T::fields(); };

/// Calls `visitor(name, value)` for each field of `object`, in declaration order.
template <class T, class Visitor>
    requires Reflected<std::remove_const_t<T>>
void visit_fields(T& object, Visitor&& visitor) {
    std::apply([&](const auto&... field) { (visitor(field.name, object.*field.member), ...); },
               std::remove_const_t<T>::fields());
}

/// The candidate with the smallest edit distance to `word`; empty if there are none.
[[nodiscard]] inline std::string nearest_name(std::string_view word,
                                              const std::vector<std::string>& candidates) {
    const auto distance = [word](std::string_view other) {
        std::vector<std::size_t> row(other.size() + 1);
        for (std::size_t j = 0; j < row.size(); ++j) {
            row[j] = j;
        }
        for (std::size_t i = 1; i <= word.size(); ++i) {
            std::size_t diagonal = std::exchange(row[0], i);
            for (std::size_t j = 1; j < row.size(); ++j) {
                const std::size_t substituted = diagonal + (word[i - 1] == other[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
            }
        }
        return row.back();
    };
    const auto nearest =
        std::min_element(candidates.begin(), candidates.end(),
                         [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
    return nearest == candidates.end() ? std::string{} : *nearest;
}

}  // namespace mor
