// SPDX-License-Identifier: Apache-2.0
//
// Functions of single elements. Eigen computes the last elements of an array, too few for a packet,
// with the standard library's functions, which round differently; here every element goes through
// packets, so that its value does not depend on its place.
#pragma once

#include <mor/backends/cpu/eigen.hpp>
#include <mor/core/types.hpp>

#include <algorithm>

namespace mor::cpu::detail {

/// body(first, last) for consecutive parts of [0, count), on all threads. Parts begin at multiples
/// of 64, so that an element is in the same place of a vector, and rounded in the same way, however
/// many threads there are.
template <class C, class Body>
void for_parts(const C& context, Index count, Index grain, Body&& body) {
    constexpr Index group = 64;
    context.backend().parallel_for(
        (count + group - 1) / group, grain / group,
        [&](Index first, Index last) { body(first * group, std::min(count, last * group)); });
}

template <class T>
using ElementGroup = Eigen::Array<T, 16, 1>;

/// out[i] = function(in[i]...) for i in [0, count), `function` being one of ElementGroups. out may
/// be one of the inputs.
template <class T, class Function, class... In>
void transform(Index count, Function&& function, T* out, const In*... in) {
    constexpr Index width = ElementGroup<T>::SizeAtCompileTime;
    const auto part = [](const T* from, Index size) {
        ElementGroup<T> group;
        if (size == width) {
            group = Eigen::Map<const ElementGroup<T>>{from};
        } else {
            group.setZero();
            std::copy_n(from, size, group.data());
        }
        return group;
    };
    for (Index i = 0; i < count; i += width) {
        const Index size = std::min(width, count - i);
        const ElementGroup<T> result = function(part(in + i, size)...);
        if (size == width) {
            Eigen::Map<ElementGroup<T>>{out + i} = result;
        } else {
            std::copy_n(result.data(), size, out + i);
        }
    }
}

}  // namespace mor::cpu::detail
