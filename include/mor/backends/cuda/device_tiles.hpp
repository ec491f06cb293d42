// SPDX-License-Identifier: Apache-2.0
//
// The products of rounded tiles on tensor cores: a warp multiplies squares of 16 x 16 elements. For
// nvcc, and GPUs from sm_80 on. Instructions and which thread has which element: PTX ISA, sections
// "ldmatrix" and "Matrix Fragments for mma.m16n8k16". The compiler's own functions (nvcuda::wmma)
// do not know that bfloat16 factors are in shared memory, and load them element by element.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/core/bfloat16.hpp>

#include <cuda_bf16.h>

namespace mor::cuda::detail {

/// See LoopTileProduct. Rows of tiles begin at multiples of 8 elements, tiles at multiples of 16
/// bytes.
template <int num_threads>
class DeviceTileProduct {
    static constexpr int side = 16;
    static constexpr int warp_size = 32;
    static constexpr int num_warps = num_threads / warp_size;

    template <int most_squares>
    class Squares;

public:
    using Sums = Squares<4>;

    // As in DeviceTeam, nobody calls these on the host.
#ifdef __CUDA_ARCH__
    [[nodiscard]] static __device__ BFloat16 rounded(float x) {
        return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
    }

    template <class Team>
    static __device__ void multiply(Team& team, const Tile<BFloat16>& a, int rows,
                                    const Tile<BFloat16>& b, int columns, int depth,
                                    const Tile<float>& out) {
        Squares<2> sums{rows, columns};  // as few as 64 x 64 elements take
        sums.clear(team);
        sums.template add<Reading::as_stored, Reading::transposed>(a, rows, depth, b);
        sums.each(team, rows, [&](int i, int j, float sum) { out(i, j) = sum; });
    }
#else
    [[nodiscard]] static MOR_HOST_DEVICE BFloat16 rounded(float x) { return to_bfloat16(x); }

    template <class Team>
    static MOR_HOST_DEVICE void multiply(Team& /*team*/, const Tile<BFloat16>& /*a*/, int /*rows*/,
                                         const Tile<BFloat16>& /*b*/, int /*columns*/,
                                         int /*depth*/, const Tile<float>& /*out*/) {}
#endif
};

/// Sums in registers: a warp has the squares of one row of squares, and every so many columns, at
/// most so many. There are up to 64 rows.
template <int num_threads>
template <int most_squares>
class DeviceTileProduct<num_threads>::Squares {
public:
    MOR_HOST_DEVICE Squares(TileMaker& /*memory*/, int rows, int columns)
        : Squares{rows, columns} {}

#ifdef __CUDA_ARCH__
    __device__ Squares(int rows, int columns) : columns_{columns} {
        const int warp = static_cast<int>(threadIdx.x) / warp_size;
        const int squares = rows <= side ? 1 : rows <= 2 * side ? 2 : 4;
        first_row_ = warp % squares * side;
        first_column_ = warp / squares * side;
        column_step_ = num_warps / squares * side;
    }

    template <class Team>
    __device__ void clear(Team& /*team*/) {
#pragma unroll
        for (auto& square : sums_) {
#pragma unroll
            for (float& sum : square) {
                sum = 0;
            }
        }
    }

    template <class Team>
    __device__ void scale_rows(Team& /*team*/, int rows, const float* factors) {
        if (first_row_ < rows) {
            const float upper = factors[first_row_ + row_of(0)];
            const float lower = factors[first_row_ + row_of(2)];
#pragma unroll
            for (auto& square : sums_) {
#pragma unroll
                for (int e = 0; e < elements; ++e) {
                    square[e] *= e % 4 < 2 ? upper : lower;
                }
            }
        }
    }

    template <Reading reading, class Team>
    __device__ void add(Team& /*team*/, const Tile<BFloat16>& w, int rows, int depth,
                        const Tile<BFloat16>& x) {
        add<reading, Reading::as_stored>(w, rows, depth, x);
    }

    /// The same with both factors as they are read.
    template <Reading w_reading, Reading x_reading>
    __device__ void add(const Tile<BFloat16>& w, int rows, int depth, const Tile<BFloat16>& x) {
        if (first_row_ >= rows) {
            return;
        }
        // Several at a time would take the registers of a second block.
#pragma unroll 1
        for (int j = 0; j < depth; j += side) {
            unsigned left[4];
            load_left<w_reading>(left, w, first_row_, j);
#pragma unroll
            for (int s = 0; s < most_squares; ++s) {
                const int column = first_column_ + s * column_step_;
                if (column < columns_) {
                    unsigned right[4];
                    load_right<x_reading>(right, x, j, column);
                    multiply_square(sums_[s], left, right);
                }
            }
        }
    }

    template <class Team, class Body>
    __device__ void each(Team& /*team*/, int rows, const Body& body) const {
#pragma unroll
        for (int s = 0; s < most_squares; ++s) {
            const int column = first_column_ + s * column_step_;
            if (first_row_ < rows && column < columns_) {
#pragma unroll
                for (int e = 0; e < elements; ++e) {
                    body(first_row_ + row_of(e), column + column_of(e), sums_[s][e]);
                }
            }
        }
    }

private:
    static constexpr int elements = side * side / warp_size;  // of a square, a thread

    [[nodiscard]] static __device__ int lane() { return static_cast<int>(threadIdx.x) % warp_size; }
    /// Where element e of a thread is in its square.
    [[nodiscard]] static __device__ int row_of(int e) { return lane() / 4 + e % 4 / 2 * 8; }
    [[nodiscard]] static __device__ int column_of(int e) {
        return e / 4 * 8 + lane() % 4 * 2 + e % 2;
    }

    /// The square of the left factor at a row and depth, as it is read.
    template <Reading reading>
    static __device__ void load_left(unsigned (&square)[4], const Tile<BFloat16>& tile, int row,
                                     int depth) {
        const int line = lane() % 8;
        const int lower = lane() / 8 % 2 * 8;
        const int deeper = lane() / 16 * 8;
        if constexpr (reading == Reading::as_stored) {
            load_square(square, tile(row + lower + line, depth + deeper));
        } else {
            load_transposed_square(square, tile(depth + deeper + line, row + lower));
        }
    }

    /// The square of the right factor at a depth and column, as it is read.
    template <Reading reading>
    static __device__ void load_right(unsigned (&square)[4], const Tile<BFloat16>& tile, int depth,
                                      int column) {
        const int line = lane() % 8;
        const int deeper = lane() / 8 % 2 * 8;
        const int further = lane() / 16 * 8;
        if constexpr (reading == Reading::as_stored) {
            load_transposed_square(square, tile(depth + deeper + line, column + further));
        } else {
            load_square(square, tile(column + further + line, depth + deeper));
        }
    }

    /// Four squares of 8 x 8 elements; a thread names where one of their 32 rows begins.
    static __device__ void load_square(unsigned (&square)[4], const BFloat16& row) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(square[0]), "=r"(square[1]), "=r"(square[2]), "=r"(square[3])
                     : "r"(shared_address(row))
                     : "memory");
    }
    static __device__ void load_transposed_square(unsigned (&square)[4], const BFloat16& row) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(square[0]), "=r"(square[1]), "=r"(square[2]), "=r"(square[3])
                     : "r"(shared_address(row))
                     : "memory");
    }
    [[nodiscard]] static __device__ unsigned shared_address(const BFloat16& element) {
        return static_cast<unsigned>(__cvta_generic_to_shared(&element));
    }

    /// sums += left right, the left and then the right half of the columns.
    static __device__ void multiply_square(float (&sums)[elements], const unsigned (&left)[4],
                                           const unsigned (&right)[4]) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float* const c = sums + half * 4;
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[2 * half]),
                  "r"(right[2 * half + 1]));
        }
    }

    float sums_[most_squares][elements];
    int columns_;
    int first_row_;
    int first_column_;
    int column_step_;
#else
    MOR_HOST_DEVICE Squares(int /*rows*/, int /*columns*/) {}
    template <class Team>
    MOR_HOST_DEVICE void clear(Team& /*team*/) {}
    template <class Team>
    MOR_HOST_DEVICE void scale_rows(Team& /*team*/, int /*rows*/, const float* /*factors*/) {}
    template <Reading reading, class Team>
    MOR_HOST_DEVICE void add(Team& /*team*/, const Tile<BFloat16>& /*w*/, int /*rows*/,
                             int /*depth*/, const Tile<BFloat16>& /*x*/) {}
    template <class Team, class Body>
    MOR_HOST_DEVICE void each(Team& /*team*/, int /*rows*/, const Body& /*body*/) const {}
#endif
};

}  // namespace mor::cuda::detail
