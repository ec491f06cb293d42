// SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt: which algorithm computes which shape is decided once and remembered.
#pragma once

#include <mor/backends/cuda/device_space.hpp>
#include <mor/backends/cuda/product.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <bit>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cublasLt.h>
#include <map>
#include <mutex>

namespace mor::cuda {

/// A matrix in the GPU's memory as cuBLASLt is told of it: row-major [rows, columns] as stored,
/// with `pitch` elements from row to row.
struct ProductOperand {
    const void* data = nullptr;
    cudaDataType_t type = CUDA_R_32F;
    Index rows = 0;
    Index columns = 0;
    Index pitch = 0;
    Reading reading = Reading::as_stored;
};

template <class T>
inline constexpr cudaDataType_t data_type_of = std::same_as<T, double> ? CUDA_R_64F : CUDA_R_32F;

/// Computes products on the stream of DeviceSpace, one after another.
class DeviceProducts {
public:
    /// With `batch_invariant`, a row of a product does not depend, to the bit, on how many rows
    /// there are: algorithms are those for a few rows, and never split a sum. Throws DeviceError.
    explicit DeviceProducts(bool batch_invariant) : batch_invariant_{batch_invariant} {
        expect_success(cublasLtCreate(&handle_), "cublasLtCreate");
    }
    DeviceProducts(const DeviceProducts&) = delete;
    DeviceProducts& operator=(const DeviceProducts&) = delete;
    ~DeviceProducts() {
        if (workspace_ != nullptr) {
            DeviceSpace::deallocate(workspace_);
        }
        static_cast<void>(cublasLtDestroy(handle_));
    }

    /// c (=, +=) a b: a [m, k] and b [k, n] as they are read, c [m, n], all dimensions positive.
    /// Factors of 16 bits are multiplied exactly; sums are in T. Throws DeviceError.
    template <std::floating_point T>
    void run(const ProductOperand& a, const ProductOperand& b, View<T, 2, DeviceSpace> c,
             Write write) {
        // cuBLASLt is column-major: what it takes for a matrix is our transposed one, so it is
        // asked for c^T = b^T a^T.
        const Problem problem{b, a,
                              ProductOperand{.data = c.data(),
                                             .type = data_type_of<T>,
                                             .rows = c.rows(),
                                             .columns = c.columns(),
                                             .pitch = c.columns()}};
        const std::lock_guard lock{mutex_};
        const Plan plan = plan_of(problem);
        const T one = 1;
        const T beta = write == Write::accumulate ? T{1} : T{0};
        expect_success(
            cublasLtMatmul(handle_, &problem.operation, &one, problem.left.data,
                           &problem.left.layout, problem.right.data, &problem.right.layout, &beta,
                           c.data(), &problem.out.layout, c.data(), &problem.out.layout,
                           &plan.algorithm, workspace(plan.workspace_bytes), plan.workspace_bytes,
                           detail::Device::get().stream()),
            "cublasLtMatmul");
    }

    /// For how many shapes an algorithm was decided.
    [[nodiscard]] Index num_plans() const {
        const std::lock_guard lock{mutex_};
        return static_cast<Index>(plans_.size());
    }

private:
    /// Plans may ask for so much. NVIDIA advises 32 MiB for Hopper.
    static constexpr std::size_t most_workspace_bytes = std::size_t{32} << 20;
    /// For so many rows algorithms are chosen if all row counts share one.
    static constexpr Index invariant_rows = 64;

    struct Matrix {
        explicit Matrix(const ProductOperand& operand) : data{operand.data} {
            expect_success(cublasLtMatrixLayoutInit(
                               &layout, operand.type, static_cast<std::uint64_t>(operand.columns),
                               static_cast<std::uint64_t>(operand.rows), operand.pitch),
                           "cublasLtMatrixLayoutInit");
            // Every row begins at a multiple of this, wherever in a batch the matrix begins.
            const auto address = reinterpret_cast<std::uintptr_t>(operand.data);
            const auto pitch_bytes = static_cast<std::uintptr_t>(operand.pitch) *
                                     (operand.type == CUDA_R_64F   ? sizeof(double)
                                      : operand.type == CUDA_R_32F ? sizeof(float)
                                                                   : sizeof(std::uint16_t));
            constexpr std::uintptr_t widest = 16;  // bytes that a thread loads or copies at once
            alignment = std::uint32_t{1} << std::countr_zero(address | pitch_bytes | widest);
        }

        cublasLtMatrixLayoutOpaque_t layout{};
        const void* data;
        std::uint32_t alignment = 1;
    };

    struct Problem {
        Problem(const ProductOperand& left_operand, const ProductOperand& right_operand,
                const ProductOperand& out_operand)
            : left{left_operand}, right{right_operand}, out{out_operand} {
            const bool is_double = out_operand.type == CUDA_R_64F;
            // Factors of 32 bits are multiplied as they are, not as TF32.
            expect_success(cublasLtMatmulDescInit(
                               &operation, is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                               out_operand.type),
                           "cublasLtMatmulDescInit");
            set(CUBLASLT_MATMUL_DESC_TRANSA, left_operand.reading);
            set(CUBLASLT_MATMUL_DESC_TRANSB, right_operand.reading);
        }

        void set(cublasLtMatmulDescAttributes_t name, Reading reading) {
            const cublasOperation_t value =
                reading == Reading::transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
            expect_success(cublasLtMatmulDescSetAttribute(&operation, name, &value, sizeof(value)),
                           "cublasLtMatmulDescSetAttribute");
        }

        Matrix left;
        Matrix right;
        Matrix out;
        cublasLtMatmulDescOpaque_t operation{};
    };
