// SPDX-License-Identifier: Apache-2.0
//
// What the attention kernels of the Cuda backend share: tiles of rows in the shared memory of a
// team, and products of them.
#pragma once

#include <mor/backends/cuda/device.hpp>
#include <mor/ops/attention.hpp>

#include <algorithm>
#include <cstddef>

namespace mor::cuda::detail {

/// How many query and key rows a team holds at a time, so that all it shares fits into 48 KiB for
/// heads of up to 128 numbers of 4 bytes.
struct TileSizes {
    int queries = 1;
    int keys = 1;
};

inline constexpr int rows_per_thread = 4;  // of a product; tiles are multiples of it

/// `key_bytes` for a tile of keys.
template <class T>
[[nodiscard]] TileSizes tile_sizes(Index head_dim, Index key_bytes) {
    constexpr Index query_bytes = 8'448;  // of 16 rows of 128 numbers of 4 bytes, and gaps
    const Index row_bytes = (head_dim + 1) * static_cast<Index>(sizeof(T));
    const auto fitting = [row_bytes](Index available, Index most) {
        const Index rows = available / row_bytes / rows_per_thread * rows_per_thread;
        return static_cast<int>(std::clamp<Index>(rows, rows_per_thread, most));
    };
    return {fitting(query_bytes, 32), fitting(key_bytes, 32)};
}

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

/// Cuts the shared memory of a team into tiles.
template <class T>
class TileMaker {
public:
    explicit MOR_HOST_DEVICE TileMaker(T* memory) : next_{memory} {}

    MOR_HOST_DEVICE Tile<T> tile(int rows, int columns) {
        T* const first = next_;
        next_ += rows * (columns + 1);
        return {first, columns + 1};
    }
    MOR_HOST_DEVICE T* numbers(int count) {
        T* const first = next_;
        next_ += count;
        return first;
    }

private:
    T* next_;
};

/// to[i] = columns [first_column, first_column + dim) of row first + i of `from`, for i < count.
template <class Team, class T>
MOR_HOST_DEVICE void load_rows(Team& team, View<const T, 2> from, Index first, int count,
                               Index first_column, int dim, const Tile<T>& to) {
    const auto threads = static_cast<int>(team.size());
    for (int e = static_cast<int>(team.rank()); e < count * dim; e += threads) {
        const int i = e / dim;
        const int c = e % dim;
        to(i, c) = from(first + i, first_column + c);
    }
}

/// out[i, j] = a[i] . b[j] for i < a_rows, j < b_rows. A thread has rows_per_thread rows of a, of
/// which those from a_rows on must be there, but do not matter.
template <class Team, class T>
MOR_HOST_DEVICE void multiply_rows(Team& team, const Tile<T>& a, int a_rows, const Tile<T>& b,
                                   int b_rows, int dim, const Tile<T>& out) {
    constexpr int rows = rows_per_thread;
    const auto threads = static_cast<int>(team.size());
    const int groups = (a_rows + rows - 1) / rows;
    for (int e = static_cast<int>(team.rank()); e < groups * b_rows; e += threads) {
        const int i = e / b_rows * rows;
        const int j = e % b_rows;
        T sums[rows] = {};
        for (int c = 0; c < dim; ++c) {
            const T factor = b(j, c);
            for (int r = 0; r < rows; ++r) {
                sums[r] += a(i + r, c) * factor;
            }
        }
        for (int r = 0; r < rows; ++r) {
            out(i + r, j) = sums[r];
        }
    }
}

/// Whether a product reads the weights [i, j] of its terms, or [j, i].
enum class Weights { by_row, by_column };

/// out[i] = decay[i] * out[i] + scale * sum_j w[i, j] x[j] for i < count, where the sum has `terms`
/// terms and decay may be null for 1. Every element of out always belongs to the same thread.
template <Weights order, class Team, class T>
MOR_HOST_DEVICE void add_weighted_rows(Team& team, const Tile<T>& w, int count, int terms,
                                       const Tile<T>& x, int dim, T scale, const T* decay,
                                       const Tile<T>& out) {
    constexpr int rows = rows_per_thread;
    const auto threads = static_cast<int>(team.size());
    const int groups = (count + rows - 1) / rows;
    for (int e = static_cast<int>(team.rank()); e < groups * dim; e += threads) {
        const int i = e / dim * rows;
        const int c = e % dim;
        T sums[rows] = {};
        for (int j = 0; j < terms; ++j) {
            const T value = x(j, c);
            for (int r = 0; r < rows; ++r) {
                sums[r] += (order == Weights::by_row ? w(i + r, j) : w(j, i + r)) * value;
            }
        }
        for (int r = 0; r < rows && i + r < count; ++r) {
            const T old = decay == nullptr ? out(i + r, c) : decay[i + r] * out(i + r, c);
            out(i + r, c) = old + scale * sums[r];
        }
    }
}

/// The rows from `first` that share their begin, before `last`: query rows of one sequence.
struct QueryRun {
    Index last;
    Index key_end;  // the largest of their ends
};
[[nodiscard]] MOR_HOST_DEVICE constexpr QueryRun query_run(View<const Index, 1> begin,
                                                           View<const Index, 1> end, Index first,
                                                           Index last) {
    QueryRun run{first + 1, end[first]};
    while (run.last < last && begin[run.last] == begin[first]) {
        run.key_end = end[run.last] > run.key_end ? end[run.last] : run.key_end;
        ++run.last;
    }
    return run;
}

}  // namespace mor::cuda::detail
