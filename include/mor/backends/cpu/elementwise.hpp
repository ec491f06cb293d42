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
