// SPDX-License-Identifier: Apache-2.0
//
// The tiles of attention whose products round their factors to the nearest BFloat16, with sums in
// float. A team may bring the products; tensor cores multiply squares of 16 x 16 elements.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/ops/linear.hpp>

#include <cstdint>
#include <cstring>
#include <memory>

namespace mor::cuda::detail {

/// The products of rounded tiles by loops. `Team::TileProduct`, where there is one, has the same
/// members. Rows and columns that a product reads are multiples of 16, as is its depth.
struct LoopTileProduct {
    [[nodiscard]] static MOR_HOST_DEVICE BFloat16 rounded(float x) { return to_bfloat16(x); }

    /// out[i, j] = a[i] . b[j] for i < rows, j < columns.
    template <class Team>
    static MOR_HOST_DEVICE void multiply(Team& team, const Tile<BFloat16>& a, int rows,
                                         const Tile<BFloat16>& b, int columns, int depth,
                                         const Tile<float>& out) {
        for_each_element(team, rows, columns, [&](int i, int j) {
            float sum = 0;
            for (int c = 0; c < depth; ++c) {
                sum += to_float(a(i, c)) * to_float(b(j, c));
            }
            out(i, j) = sum;
        });
    }

    /// Sums of products [rows, columns] that a team keeps, an element always in the same thread.
    class Sums {
    public:
        MOR_HOST_DEVICE Sums(TileMaker& memory, int rows, int columns)
            : place_{memory.tile<float>(rows, columns)}, rows_{rows}, columns_{columns} {}

        template <class Team>
        MOR_HOST_DEVICE void clear(Team& team) {
            for_each_element(team, rows_, columns_, [&](int i, int c) { place_(i, c) = 0; });
        }
        /// Multiplies each of the first `rows` rows by its factor.
        template <class Team>
        MOR_HOST_DEVICE void scale_rows(Team& team, int rows, const float* factors) {
            for_each_element(team, rows, columns_,
                             [&](int i, int c) { place_(i, c) *= factors[i]; });
        }
        /// sums[i] += sum_j w[i, j] x[j] for i < rows, with w as it is read.
        template <Reading reading, class Team>
        MOR_HOST_DEVICE void add(Team& team, const Tile<BFloat16>& w, int rows, int depth,
                                 const Tile<BFloat16>& x) {
            for_each_element(team, rows, columns_, [&](int i, int c) {
                float sum = place_(i, c);
                for (int j = 0; j < depth; ++j) {
                    sum += to_float(reading == Reading::as_stored ? w(i, j) : w(j, i)) *
                           to_float(x(j, c));
                }
                place_(i, c) = sum;
            });
        }
        /// body(i, c, sum) for the first `rows` rows.
        template <class Team, class Body>
        MOR_HOST_DEVICE void each(Team& team, int rows, const Body& body) {
            for_each_element(team, rows, columns_, [&](int i, int c) { body(i, c, place_(i, c)); });
        }

    private:
        Tile<float> place_;
        int rows_;
        int columns_;
    };
};

template <class Team>
struct TileProductOf {
    using Type = LoopTileProduct;
};
template <class Team>
    requires requires { typename Team::TileProduct; }
struct TileProductOf<Team> {
    using Type = typename Team::TileProduct;
};

/// See ExactTiles. What is not there is 0 up to the next multiple of 16.
template <class Team>
struct RoundedTiles {
    using Factor = BFloat16;
    using Product = typename TileProductOf<Team>::Type;
    static constexpr int softmax_parts = 4;
    static constexpr int widest_head = 256;

    // So that a team shares less than 99 KiB, which a block of any GPU with these tensor cores can
    // have, and its sums, of up to 64 x 128 or 32 x 256 numbers, fit into registers.
    [[nodiscard]] static TileSizes forward_sizes(int dim) { return {rows(dim), rows(dim)}; }
    [[nodiscard]] static TileSizes query_gradient_sizes(int dim) { return {rows(dim), 32}; }
    [[nodiscard]] static TileSizes key_gradient_sizes(int dim) { return {32, rows(dim)}; }

    [[nodiscard]] static MOR_HOST_DEVICE constexpr int padded(int n) { return (n + 15) / 16 * 16; }
    [[nodiscard]] static MOR_HOST_DEVICE BFloat16 factor(float x) { return Product::rounded(x); }

    // Rows begin 16 bytes further in the memory banks each.
    [[nodiscard]] static MOR_HOST_DEVICE Tile<BFloat16> factors(TileMaker& memory, int rows,
                                                                int columns) {
        return memory.tile<BFloat16>(rows, padded(columns) + 8);
    }
    [[nodiscard]] static MOR_HOST_DEVICE Tile<float> scores(TileMaker& memory,
                                                            const TileSizes& sizes) {
        return memory.tile<float>(sizes.queries, sizes.keys + 4);
    }
    [[nodiscard]] static MOR_HOST_DEVICE Tile<BFloat16> weights(TileMaker& memory,
                                                                const TileSizes& sizes,
                                                                const Tile<float>& /*scores*/) {
        return factors(memory, sizes.queries, sizes.keys);
    }

    static MOR_HOST_DEVICE void load(Team& team, View<const float, 2> from, Index first, int count,
                                     Index column, int dim, const Tile<BFloat16>& to) {
        for_each_packet(team, from, first, count, column, dim,
                        [&](int i, int c, const Packet<float>& numbers) {
                            struct Rounded {
                                BFloat16 x[sizeof(Packet<float>) / sizeof(float)];
                            };
                            const Rounded rounded{{factor(numbers.x[0]), factor(numbers.x[1]),
                                                   factor(numbers.x[2]), factor(numbers.x[3])}};
                            std::memcpy(std::assume_aligned<sizeof(Rounded)>(&to(i, c)), &rounded,
                                        sizeof(Rounded));
                        });
    }
    /// The same of numbers that are rounded already.
    static MOR_HOST_DEVICE void load(Team& team, View<const BFloat16, 2> from, Index first,
                                     int count, Index column, int dim, const Tile<BFloat16>& to) {
        for_each_packet(team, from, first, count, column, dim,
                        [&](int i, int c, const Packet<BFloat16>& numbers) {
                            std::memcpy(std::assume_aligned<sizeof(numbers)>(&to(i, c)), &numbers,
                                        sizeof(numbers));
                        });
    }

    static MOR_HOST_DEVICE void multiply(Team& team, const Tile<BFloat16>& a, int a_rows,
                                         const Tile<BFloat16>& b, int b_rows, int dim,
                                         const Tile<float>& out) {
        Product::multiply(team, a, padded(a_rows), b, padded(b_rows), padded(dim), out);
    }

    class Sums {
    public:
        MOR_HOST_DEVICE Sums(TileMaker& memory, int rows, int dim)
            : sums_{memory, rows, padded(dim)}, dim_{dim} {}

        MOR_HOST_DEVICE void clear(Team& team, int /*count*/) { sums_.clear(team); }

        template <Reading reading>
        MOR_HOST_DEVICE void add(Team& team, const Tile<BFloat16>& w, int count, int terms,
                                 const Tile<BFloat16>& x, const float* decay) {
            if (decay != nullptr) {
                sums_.scale_rows(team, padded(count), decay);
            }
            sums_.template add<reading>(team, w, padded(count), padded(terms), x);
        }

        template <class Body>
        MOR_HOST_DEVICE void each(Team& team, int count, const Body& body) {
            sums_.each(team, padded(count), [&](int i, int c, float sum) {
                if (i < count && c < dim_) {
                    body(i, c, sum);
                }
            });
        }

    private:
        typename Product::Sums sums_;
        int dim_;
    };

    template <class Y>
    class GradientSums {
    public:
        MOR_HOST_DEVICE GradientSums(TileMaker& memory, int rows, int dim)
            : sums_{memory, rows, dim} {}

        template <Write write>
        MOR_HOST_DEVICE void begin(Team& team, int count, const Gradient<Y, float>& /*gradient*/) {
            sums_.clear(team, count);
        }
        template <Reading reading>
        MOR_HOST_DEVICE void add(Team& team, const Tile<BFloat16>& w, int count, int terms,
                                 const Tile<BFloat16>& x, const Gradient<Y, float>& /*gradient*/) {
            sums_.template add<reading>(team, w, count, terms, x, nullptr);
        }
        template <Write write>
        MOR_HOST_DEVICE void finish(Team& team, int count, const Gradient<Y, float>& gradient) {
            sums_.each(team, count, [&](int i, int c, float sum) {
                const float old = write == Write::accumulate ? widened(gradient.rows(i, c)) : 0;
                gradient.rows(i, c) = rounded_to<Y>(old + gradient.scale * sum);
            });
        }

    private:
        Sums sums_;
    };

private:
    [[nodiscard]] static int rows(int dim) { return dim <= 128 ? 64 : 32; }

    /// As many numbers as a thread reads at once.
    template <class T>
    struct Packet {
        static constexpr int size = 16 / static_cast<int>(sizeof(T));
        T x[16 / sizeof(T)];
    };

    /// body(i, c, packet of the numbers from (i, c) on) for the rows and columns of a tile, padded:
    /// [count, dim] of `from` from (first, column) on, and 0 beyond them.
    template <class T, class Body>
    static MOR_HOST_DEVICE void for_each_packet(Team& team, View<const T, 2> from, Index first,
                                                int count, Index column, int dim,
                                                const Body& body) {
        constexpr int size = Packet<T>::size;
        const bool is_aligned =
            dim % size == 0 && from.columns() % size == 0 && column % size == 0 &&
            reinterpret_cast<std::uintptr_t>(from.data()) % sizeof(Packet<T>) == 0;
        for_each_element(team, padded(count), padded(dim) / size, [&](int i, int place) {
            const int c = size * place;
            Packet<T> numbers{};
            if (i < count && c < dim) {
                const T* const source = from.row(first + i).data() + column + c;
                if (is_aligned) {
                    std::memcpy(&numbers, std::assume_aligned<sizeof(numbers)>(source),
                                sizeof(numbers));
                } else {
                    for (int r = 0; r < size && c + r < dim; ++r) {
                        numbers.x[r] = source[r];
                    }
                }
            }
            body(i, c, numbers);
        });
    }
};

}  // namespace mor::cuda::detail
