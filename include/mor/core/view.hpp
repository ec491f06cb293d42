// SPDX-License-Identifier: Apache-2.0
//
// View<T, Rank, Space>: a non-owning, contiguous, row-major window on memory of one space.
#pragma once

#include <mor/core/space.hpp>
#include <mor/core/types.hpp>

#include <array>
#include <concepts>
#include <type_traits>

namespace mor {

template <class T, int Rank, MemorySpace Space = HostSpace>
class View {
public:
    using Number = std::remove_const_t<T>;
    using Extents = std::array<Index, static_cast<std::size_t>(Rank)>;

    constexpr View() = default;
    constexpr View(T* data, const Extents& extents) : data_{data}, extents_{extents} {}

    /// A read-only view of the same memory.
    template <class U>
        requires(!std::is_const_v<U> && std::same_as<const U, T>)
    constexpr View(View<U, Rank, Space> view)  // NOLINT(google-explicit-constructor)
        : View{view.data(), view.extents()} {}

    [[nodiscard]] constexpr T* data() const { return data_; }
    [[nodiscard]] constexpr const Extents& extents() const { return extents_; }
    [[nodiscard]] constexpr Index extent(int axis) const {
        return extents_[static_cast<std::size_t>(axis)];
    }
    [[nodiscard]] constexpr Index size() const {
        Index product = 1;
        for (const Index extent : extents_) {
            product *= extent;
        }
        return product;
    }
    [[nodiscard]] constexpr bool empty() const { return size() == 0; }

    /// Number of rows and columns of a matrix.
    [[nodiscard]] constexpr Index rows() const
        requires(Rank == 2)
    {
        return extents_[0];
    }
    [[nodiscard]] constexpr Index columns() const
        requires(Rank == 2)
    {
        return extents_[1];
    }

    constexpr T& operator[](Index i) const
        requires(Rank == 1 && std::same_as<Space, HostSpace>)
    {
        return data_[i];
    }
    constexpr T& operator()(Index row, Index column) const
        requires(Rank == 2 && std::same_as<Space, HostSpace>)
    {
        return data_[row * extents_[1] + column];
    }

    /// Row `i` of a matrix, [columns].
    [[nodiscard]] constexpr View<T, 1, Space> row(Index i) const
        requires(Rank == 2)
    {
        return {data_ + i * extents_[1], {extents_[1]}};
    }

    /// Rows [first, first + count) of a matrix, or elements of a vector.
    [[nodiscard]] constexpr View slice(Index first, Index count) const {
        Extents extents = extents_;
        extents[0] = count;
        Index stride = 1;
        for (std::size_t axis = 1; axis < extents_.size(); ++axis) {
            stride *= extents_[axis];
        }
        return {data_ + first * stride, extents};
    }

    /// The same elements as one long vector.
    [[nodiscard]] constexpr View<T, 1, Space> flat() const { return {data_, {size()}}; }

private:
    T* data_ = nullptr;
    Extents extents_{};
};

}  // namespace mor
