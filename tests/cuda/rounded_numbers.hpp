// SPDX-License-Identifier: Apache-2.0
//
// Matrices of elements, and the same of the numbers that products read.
#pragma once

#include "backends/backends.hpp"

#include <cstdint>
#include <vector>

namespace rounded_numbers {

using namespace backend_tests;
using mor::BFloat16;

template <Backend B>
using Matrix = Tensor<typename B::Element, 2, typename B::Space>;
template <Backend B>
using Input = Tensor<mor::ActivationElement<B>, 2, typename B::Space>;

template <Backend B>
[[nodiscard]] Matrix<B> random_matrix(Index rows, Index columns, mor::Random& random) {
    Matrix<B> matrix{{rows, columns}};
    mor::testing::random_fill(matrix.view(), random);  // numbers that are not BFloat16
    return matrix;
}

/// Integers whose products and sums are exact, in whatever order they are added.
template <Backend B>
[[nodiscard]] Matrix<B> exact_matrix(Index rows, Index columns, mor::Random& random) {
    Matrix<B> matrix{{rows, columns}};
    mor::testing::fill_from(matrix.view(),
                            mor::testing::uniform_integers(random, matrix.size(), -8, 9));
    return matrix;
}

/// Of the nearest numbers, as products round them.
template <class T, mor::MemorySpace Space>
[[nodiscard]] std::vector<std::uint16_t> bits_of(View<const T, 2, Space> matrix) {
    std::vector<std::uint16_t> bits;
    for (const T value : mor::to_host(matrix)) {
        bits.push_back(mor::to_bfloat16(mor::cuda::widened(value)).bits);
    }
    return bits;
}

/// A Result of the numbers of a matrix, each converted.
template <class Result, class From, class Convert>
[[nodiscard]] Result converted(const From& matrix, const Convert& convert) {
    std::vector<decltype(convert({}))> values;
    for (const auto value : mor::to_host(matrix.view())) {
        values.push_back(convert(value));
    }
    Result result{{matrix.view().rows(), matrix.view().columns()}};
    mor::from_host(result.view(), values);
    return result;
}
template <Backend B>
[[nodiscard]] Input<B> rounded(const Matrix<B>& matrix) {
    return converted<Input<B>>(matrix, [](float x) { return mor::to_bfloat16(x); });
}
template <Backend B>
[[nodiscard]] Matrix<B> widened(const Input<B>& matrix) {
    return converted<Matrix<B>>(matrix, [](BFloat16 x) { return mor::to_float(x); });
}

template <class T, mor::MemorySpace Space>
[[nodiscard]] auto as_const(View<T, 2, Space> view) {
    return View<const T, 2, Space>{view};
}

}  // namespace rounded_numbers
