// SPDX-License-Identifier: Apache-2.0
//
// The products of rounded tiles on tensor cores: a warp multiplies squares of 16 x 16 elements. For
// nvcc, and GPUs from sm_80 on.
#pragma once

#include <mor/backends/cuda/product.hpp>
#include <mor/backends/cuda/tiles.hpp>
#include <mor/core/bfloat16.hpp>

#include <cuda_bf16.h>

#include <mma.h>
#include <type_traits>

namespace mor::cuda::detail {

namespace wmma = nvcuda::wmma;

/// See LoopTileProduct. Rows of tiles begin at multiples of 8 elements, tiles at multiples of 32
/// bytes.
template <int num_threads>
class DeviceTileProduct {
    static constexpr int side = 16;
    static constexpr int warp_size = 32;
    static constexpr int num_warps = num_threads / warp_size;

public:
    class Sums;

    // As in DeviceTeam, nobody calls these on the host.
#ifdef __CUDA_ARCH__
    [[nodiscard]] static __device__ BFloat16 rounded(float x) {
        return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
    }

    template <class Team>
    static __device__ void multiply(Team& team, const Tile<BFloat16>& a, int rows,
                                    const Tile<BFloat16>& b, int columns, int depth,
                                    const Tile<float>& out) {
        Sums sums{nullptr, rows, columns};  // its memory is for scale_rows and each
        sums.clear(team);
        sums.template add<Reading::as_stored, Reading::transposed>(a, rows, depth, b);
        sums.store(rows, out);
    }
#else
    [[nodiscard]] static MOR_HOST_DEVICE BFloat16 rounded(float x) { return to_bfloat16(x); }

    template <class Team>
    static MOR_HOST_DEVICE void multiply(Team& /*team*/, const Tile<BFloat16>& /*a*/, int /*rows*/,
                                         const Tile<BFloat16>& /*b*/, int /*columns*/,
                                         int /*depth*/, const Tile<float>& /*out*/) {}
#endif
};

/// In registers: a warp has the squares of one row of squares, and every so many columns. There are
/// at most 64 rows, and 8,192 elements.
template <int num_threads>
class DeviceTileProduct<num_threads>::Sums {
public:
    MOR_HOST_DEVICE Sums(TileMaker& memory, int rows, int columns)
        : Sums{memory.numbers<float>(num_warps * side * side), rows, columns} {}

#ifdef __CUDA_ARCH__
    __device__ Sums(float* memory, int rows, int columns) : columns_{columns} {
        const int warp = static_cast<int>(threadIdx.x) / warp_size;
        const int squares = rows <= side ? 1 : rows <= 2 * side ? 2 : 4;
        first_row_ = warp % squares * side;
        first_column_ = warp / squares * side;
        column_step_ = num_warps / squares * side;
        own_ = memory + warp * side * side;
    }

    template <class Team>
    __device__ void clear(Team& /*team*/) {
#pragma unroll
        for (Square& square : squares_) {
            wmma::fill_fragment(square, 0.0F);
        }
    }

    template <class Team>
    __device__ void scale_rows(Team& /*team*/, int rows, const float* factors) {
        if (first_row_ >= rows) {
            return;
        }
        // Which rows a thread has of a square only another square of the same kind can tell.
        for (int e = lane(); e < side * side; e += warp_size) {
            own_[e] = factors[first_row_ + e % side];
        }
        __syncwarp();
        Square by_row;
        wmma::load_matrix_sync(by_row, own_, side, wmma::mem_col_major);
#pragma unroll
        for (Square& square : squares_) {
#pragma unroll
            for (int e = 0; e < Square::num_elements; ++e) {
                square.x[e] *= by_row.x[e];
            }
        }
        __syncwarp();
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
        for (int j = 0; j < depth; j += side) {
            Factor<wmma::matrix_a, w_reading> left;
            load<w_reading>(left, w, first_row_, j);
#pragma unroll
            for (int s = 0; s < most_squares; ++s) {
                const int column = first_column_ + s * column_step_;
                if (column < columns_) {
                    Factor<wmma::matrix_b, x_reading> right;
                    load<x_reading>(right, x, j, column);
                    wmma::mma_sync(squares_[s], left, right, squares_[s]);
                }
            }
        }
    }

    __device__ void store(int rows, const Tile<float>& out) const {
#pragma unroll
        for (int s = 0; s < most_squares; ++s) {
            const int column = first_column_ + s * column_step_;
            if (first_row_ < rows && column < columns_) {
                wmma::store_matrix_sync(&out(first_row_, column), squares_[s], out.stride,
                                        wmma::mem_row_major);
            }
        }
    }

    template <class Team, class Body>
    __device__ void each(Team& /*team*/, int rows, const Body& body) {
#pragma unroll
        for (int s = 0; s < most_squares; ++s) {
            const int column = first_column_ + s * column_step_;
            if (first_row_ < rows && column < columns_) {
                wmma::store_matrix_sync(own_, squares_[s], side, wmma::mem_row_major);
                __syncwarp();
                for (int e = lane(); e < side * side; e += warp_size) {
                    body(first_row_ + e / side, column + e % side, own_[e]);
                }
                __syncwarp();
            }
        }
    }

private:
    static constexpr int most_squares = 4;
    using Square = wmma::fragment<wmma::accumulator, side, side, side, float>;
    template <class Use, Reading reading>
    using Factor = wmma::fragment<
        Use, side, side, side, __nv_bfloat16,
        std::conditional_t<reading == Reading::as_stored, wmma::row_major, wmma::col_major>>;

    [[nodiscard]] static __device__ int lane() { return static_cast<int>(threadIdx.x) % warp_size; }

    /// The square at a row and column of the tile as it is read.
    template <Reading reading, class Fragment>
    static __device__ void load(Fragment& fragment, const Tile<BFloat16>& tile, int row,
                                int column) {
        const BFloat16& first =
            reading == Reading::as_stored ? tile(row, column) : tile(column, row);
        wmma::load_matrix_sync(fragment, reinterpret_cast<const __nv_bfloat16*>(&first),
                               tile.stride);
    }

    Square squares_[most_squares];
    float* own_;  // a square of the warp's own
    int columns_;
    int first_row_;
    int first_column_;
    int column_step_;
#else
    MOR_HOST_DEVICE Sums(float* /*memory*/, int /*rows*/, int /*columns*/) {}
    template <class Team>
    MOR_HOST_DEVICE void clear(Team& /*team*/) {}
    template <class Team>
    MOR_HOST_DEVICE void scale_rows(Team& /*team*/, int /*rows*/, const float* /*factors*/) {}
    template <Reading reading, class Team>
    MOR_HOST_DEVICE void add(Team& /*team*/, const Tile<BFloat16>& /*w*/, int /*rows*/,
                             int /*depth*/, const Tile<BFloat16>& /*x*/) {}
    template <class Team, class Body>
    MOR_HOST_DEVICE void each(Team& /*team*/, int /*rows*/, const Body& /*body*/) {}
#endif
};

}  // namespace mor::cuda::detail
