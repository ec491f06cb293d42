// SPDX-License-Identifier: Apache-2.0
//
// The tiles of attention whose products are in the element type.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/ops/linear.hpp>

#include <algorithm>
#include <concepts>

namespace mor::cuda::detail {

/// Tiles of attention and their products, in T: a thread has several rows of a column. RoundedTiles
/// has the same members. `Factor` is what a product multiplies, `padded(n)` how many rows or
/// columns it reads where there are n, `softmax_parts` how many threads share the scores of a
/// query.
template <class T>
struct ExactTiles {
    using Factor = T;
    static constexpr int softmax_parts = 1;
    static constexpr int rows_per_thread = 4;  // tiles are multiples of it

    [[nodiscard]] static TileSizes forward_sizes(int dim) { return fitting_sizes(dim, 16'896); }
    [[nodiscard]] static TileSizes query_gradient_sizes(int dim) {
        return fitting_sizes(dim, 8'448);
    }
    [[nodiscard]] static TileSizes key_gradient_sizes(int dim) { return fitting_sizes(dim, 8'448); }

    [[nodiscard]] static MOR_HOST_DEVICE constexpr int padded(int n) { return n; }
    [[nodiscard]] static MOR_HOST_DEVICE T factor(T x) { return x; }

    [[nodiscard]] static MOR_HOST_DEVICE Tile<T> factors(TileMaker& memory, int rows, int columns) {
        return memory.tile<T>(rows, columns + 1);
    }
    [[nodiscard]] static MOR_HOST_DEVICE Tile<T> scores(TileMaker& memory, const TileSizes& sizes) {
        return memory.tile<T>(sizes.queries, sizes.keys + 1);
    }
    /// Where weights that are made of scores are multiplied.
    [[nodiscard]] static MOR_HOST_DEVICE Tile<T> weights(TileMaker& /*memory*/,
                                                         const TileSizes& /*sizes*/,
                                                         const Tile<T>& scores) {
        return scores;
    }

    /// to[i] = columns [column, column + dim) of row first + i of `from`, for i < count.
    template <class Team, class X>
    static MOR_HOST_DEVICE void load(Team& team, View<const X, 2> from, Index first, int count,
                                     Index column, int dim, const Tile<T>& to) {
        for_each_element(team, count, dim,
                         [&](int i, int c) { to(i, c) = widened(from(first + i, column + c)); });
    }

    /// out[i, j] = a[i] . b[j] for i < a_rows, j < b_rows. The rows of a from a_rows on must be
    /// there, but do not matter.
    template <class Team>
    static MOR_HOST_DEVICE void multiply(Team& team, const Tile<T>& a, int a_rows, const Tile<T>& b,
                                         int b_rows, int dim, const Tile<T>& out) {
        constexpr int rows = rows_per_thread;
        for_each_element(team, (a_rows + rows - 1) / rows, b_rows, [&](int group, int j) {
            const int i = group * rows;
            T sums[rows] = {};
            for (int c = 0; c < dim; ++c) {
                const T value = b(j, c);
                for (int r = 0; r < rows; ++r) {
                    sums[r] += a(i + r, c) * value;
                }
            }
            for (int r = 0; r < rows; ++r) {
                out(i + r, j) = sums[r];
            }
        });
    }

    /// Weighted sums of rows [rows, dim] that a team adds up. They are kept in memory.
    class Sums {
    public:
        MOR_HOST_DEVICE Sums(TileMaker& memory, int rows, int dim)
            : Sums{memory.tile<T>(rows, dim + 1), dim, T{1}} {}
        MOR_HOST_DEVICE Sums(const Tile<T>& place, int dim, T scale)
            : place_{place}, dim_{dim}, scale_{scale} {}

        template <class Team>
        MOR_HOST_DEVICE void clear(Team& team, int count) {
            for_each_element(team, count, dim_, [&](int i, int c) { place_(i, c) = T{0}; });
        }

        /// sums[i] = decay[i] * sums[i] + scale * sum_j w[i, j] x[j] for i < count, where the sum
        /// has `terms` terms, w is read as stored or transposed, and decay may be null for 1.
        template <Reading reading, class Team>
        MOR_HOST_DEVICE void add(Team& team, const Tile<T>& w, int count, int terms,
                                 const Tile<T>& x, const T* decay) {
            constexpr int rows = rows_per_thread;
            for_each_element(team, (count + rows - 1) / rows, dim_, [&](int group, int c) {
                const int i = group * rows;
                T sums[rows] = {};
                for (int j = 0; j < terms; ++j) {
                    const T value = x(j, c);
                    for (int r = 0; r < rows; ++r) {
                        sums[r] +=
                            (reading == Reading::as_stored ? w(i + r, j) : w(j, i + r)) * value;
                    }
                }
                for (int r = 0; r < rows && i + r < count; ++r) {
                    const T old =
                        decay == nullptr ? place_(i + r, c) : decay[i + r] * place_(i + r, c);
                    place_(i + r, c) = old + scale_ * sums[r];
                }
            });
        }

        /// body(i, c, sum) for the first `count` rows.
        template <class Team, class Body>
        MOR_HOST_DEVICE void each(Team& team, int count, const Body& body) {
            for_each_element(team, count, dim_, [&](int i, int c) { body(i, c, place_(i, c)); });
        }

    private:
        Tile<T> place_;
        int dim_;
        T scale_;
    };

    /// Sums that are written over a gradient, or added to it: here they are kept there, unless its
    /// numbers would round every sum.
    template <class Y>
    class GradientSums {
        static constexpr bool is_exact = std::same_as<Y, T>;

    public:
        MOR_HOST_DEVICE GradientSums(TileMaker& memory, int rows, int dim) : dim_{dim} {
            if constexpr (!is_exact) {
                apart_ = memory.tile<T>(rows, dim + 1);
            }
        }

        template <Write write, class Team>
        MOR_HOST_DEVICE void begin(Team& team, int count, const Gradient<Y, T>& gradient) {
            static_assert(is_exact || write == Write::overwrite);
            if (write == Write::overwrite) {
                sums(gradient).clear(team, count);
            }
        }
        template <Reading reading, class Team>
        MOR_HOST_DEVICE void add(Team& team, const Tile<T>& w, int count, int terms,
                                 const Tile<T>& x, const Gradient<Y, T>& gradient) {
            sums(gradient).template add<reading>(team, w, count, terms, x, nullptr);
        }
        template <Write write, class Team>
        MOR_HOST_DEVICE void finish(Team& team, int count, const Gradient<Y, T>& gradient) {
            if constexpr (!is_exact) {
                team.sync();
                sums(gradient).each(team, count, [&](int i, int c, T sum) {
                    gradient.rows(i, c) = rounded_to<Y>(sum);
                });
            }
        }

    private:
        [[nodiscard]] MOR_HOST_DEVICE Sums sums(const Gradient<Y, T>& gradient) const {
            if constexpr (is_exact) {
                return {gradient.rows, dim_, gradient.scale};
            } else {
                return {apart_, dim_, gradient.scale};
            }
        }

        int dim_;
        Tile<T> apart_{};
    };

private:
    /// All that a team shares, but for sums apart, fits into 48 KiB for heads of up to 128 numbers
    /// of 4 bytes, with so many bytes for a tile of keys.
    [[nodiscard]] static TileSizes fitting_sizes(int dim, int key_bytes) {
        constexpr int query_bytes = 8'448;  // of 16 rows of 128 numbers of 4 bytes, and gaps
        const int row_bytes = (dim + 1) * static_cast<int>(sizeof(T));
        const auto fitting = [row_bytes](int available, int most) {
            const int rows = available / row_bytes / rows_per_thread * rows_per_thread;
            return std::clamp(rows, rows_per_thread, most);
        };
        return {fitting(query_bytes, 32), fitting(key_bytes, 32)};
    }
};

}  // namespace mor::cuda::detail
