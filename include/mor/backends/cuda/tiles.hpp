// SPDX-License-Identifier: Apache-2.0
//
// Tiles of matrices in the shared memory of a team.
#pragma once

#include <mor/backends/cuda/system.hpp>

#include <cstddef>

namespace mor::cuda::detail {

/// How many query and key rows a team holds at a time.
struct TileSizes {
    int queries = 1;
    int keys = 1;
};

/// Rows in shared or global memory, `stride` elements apart. In shared memory there is a gap after
/// each, so that threads that read a column do not ask one memory bank.
template <class T>
struct Tile {
    T* data;
    int stride;

    [[nodiscard]] MOR_HOST_DEVICE T& operator()(int row, int column) const {
        return data[row * stride + column];
    }
};

/// Rows of numbers Y in global memory that receive sums of T, times the scale.
template <class Y, class T = Y>
struct Gradient {
    Tile<Y> rows;
    T scale;
};

/// Cuts the shared memory of a team into tiles; without memory it only counts.
class TileMaker {
public:
    explicit MOR_HOST_DEVICE TileMaker(std::byte* memory) : memory_{memory} {}

    template <class T>
    [[nodiscard]] MOR_HOST_DEVICE T* numbers(int count) {
        constexpr std::size_t alignment = 16;
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        const std::size_t first = used_;
        used_ += (bytes + alignment - 1) / alignment * alignment;
        return memory_ == nullptr ? nullptr : static_cast<T*>(static_cast<void*>(memory_ + first));
    }
    template <class T>
    [[nodiscard]] MOR_HOST_DEVICE Tile<T> tile(int rows, int stride) {
        return {numbers<T>(rows * stride), stride};
    }
    [[nodiscard]] std::size_t used_bytes() const { return used_; }

private:
    std::byte* memory_;
    std::size_t used_ = 0;
};

/// body(i, j) for i < rows and j < columns, neighbours by neighbouring threads. Each element always
/// belongs to the same thread.
template <class Team, class Body>
MOR_HOST_DEVICE void for_each_element(Team& team, int rows, int columns, const Body& body) {
    const auto threads = static_cast<int>(team.size());
    const auto rank = static_cast<int>(team.rank());
    const int row_step = threads / columns;
    const int column_step = threads % columns;
    int j = rank % columns;
    for (int i = rank / columns; i < rows; i += row_step) {
        body(i, j);
        j += column_step;
        if (j >= columns) {
            j -= columns;
            ++i;
        }
    }
}

}  // namespace mor::cuda::detail
