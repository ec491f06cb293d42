// SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt: which algorithm computes which shape is decided once and remembered.
#pragma once

#include <mor/backends/cuda/device_space.hpp>
#include <mor/backends/cuda/product.hpp>
#include <mor/core/bfloat16.hpp>
#include <mor/core/types.hpp>

#include <bit>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cublasLt.h>
#include <map>
#include <mutex>
#include <type_traits>

namespace mor::cuda {

/// A factor in the GPU's memory: row-major [rows, columns] as stored, with `pitch` elements from
/// row to row.
struct ProductFactor {
    const void* data = nullptr;
    cudaDataType_t type = CUDA_R_32F;  // or CUDA_R_64F, CUDA_R_16BF
    Index rows = 0;
    Index columns = 0;
    Index pitch = 0;
    Reading reading = Reading::as_stored;
};

template <class T>
    requires std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, BFloat16>
inline constexpr cudaDataType_t data_type_of = std::same_as<T, double>  ? CUDA_R_64F
                                               : std::same_as<T, float> ? CUDA_R_32F
                                                                        : CUDA_R_16BF;

/// Computes products one after another, in the order of DeviceSpace. Several threads may ask at
/// once.
class DeviceProducts {
public:
    /// With `batch_invariant`, a row of a product does not depend, to the bit, on how many other
    /// rows there are: one algorithm serves every number of rows, and never splits a sum. Throws
    /// DeviceError.
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

    /// c (=, +=) a b: a [m, k] and b [k, n] as they are read, of one type, c [m, n]; all dimensions
    /// positive. Factors are multiplied as they are, a float not as TF32; sums are in T, of
    /// BFloat16 in float, rounded once. Throws DeviceError.
    template <class T>
    void run(const ProductFactor& a, const ProductFactor& b, View<T, 2, DeviceSpace> c,
             Write write) {
        const Shape shape = shape_of(a, b, c);
        Problem problem{shape};
        using Sum = std::conditional_t<std::same_as<T, double>, double, float>;
        const Sum one = 1;
        const Sum kept = write == Write::accumulate ? Sum{1} : Sum{0};  // of what c holds

        detail::Device::get().make_current();  // plans are made for it
        const std::lock_guard lock{mutex_};
        const Plan plan = plan_for(shape, problem);
        // What is b to us comes first; see Problem.
        expect_success(cublasLtMatmul(handle_, &problem.operation, &one, b.data, &problem.b, a.data,
                                      &problem.a, &kept, c.data(), &problem.c, c.data(), &problem.c,
                                      &plan.algorithm, workspace(plan.workspace_bytes),
                                      plan.workspace_bytes, detail::Device::get().stream()),
                       "cublasLtMatmul");
    }

private:
    static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // NVIDIA's advice

    /// All that the choice of an algorithm depends on.
    struct Shape {
        Index m = 0;
        Index n = 0;
        Index k = 0;
        Reading a_reading = Reading::as_stored;
        Reading b_reading = Reading::as_stored;
        cudaDataType_t factor_type = CUDA_R_32F;
        cudaDataType_t result_type = CUDA_R_32F;
        Index a_pitch = 0;
        Index b_pitch = 0;
        std::uint32_t a_alignment = 1;
        std::uint32_t b_alignment = 1;
        std::uint32_t c_alignment = 1;

        auto operator<=>(const Shape&) const = default;
    };

    /// A shape in the words of cuBLASLt, whose matrices are column-major. A row-major matrix is the
    /// transposed one to it, so it is asked for c^T = b^T a^T.
    struct Problem {
        explicit Problem(const Shape& shape) {
            const bool is_double = shape.result_type == CUDA_R_64F;
            expect_success(cublasLtMatmulDescInit(
                               &operation, is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                               is_double ? CUDA_R_64F : CUDA_R_32F),
                           "cublasLtMatmulDescInit");
            read(CUBLASLT_MATMUL_DESC_TRANSA, shape.b_reading);
            read(CUBLASLT_MATMUL_DESC_TRANSB, shape.a_reading);
            describe(a, shape.factor_type, shape.m, shape.k, shape.a_reading, shape.a_pitch);
            describe(b, shape.factor_type, shape.k, shape.n, shape.b_reading, shape.b_pitch);
            describe(c, shape.result_type, shape.m, shape.n, Reading::as_stored, shape.n);
        }

        cublasLtMatmulDescOpaque_t operation{};
        cublasLtMatrixLayoutOpaque_t a{};
        cublasLtMatrixLayoutOpaque_t b{};
        cublasLtMatrixLayoutOpaque_t c{};

    private:
        void read(cublasLtMatmulDescAttributes_t name, Reading reading) {
            const cublasOperation_t value =
                reading == Reading::transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
            expect_success(cublasLtMatmulDescSetAttribute(&operation, name, &value, sizeof(value)),
                           "cublasLtMatmulDescSetAttribute");
        }
        /// Rows and columns are those of the matrix as it is read.
        static void describe(cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, Index rows,
                             Index columns, Reading reading, Index pitch) {
            const bool is_stored = reading == Reading::as_stored;
            expect_success(
                cublasLtMatrixLayoutInit(
                    &layout, type, static_cast<std::uint64_t>(is_stored ? columns : rows),
                    static_cast<std::uint64_t>(is_stored ? rows : columns), pitch),
                "cublasLtMatrixLayoutInit");
        }
    };

    struct Plan {
        cublasLtMatmulAlgo_t algorithm{};
        std::size_t workspace_bytes = 0;
    };

    template <class T>
    [[nodiscard]] static Shape shape_of(const ProductFactor& a, const ProductFactor& b,
                                        View<T, 2, DeviceSpace> c) {
        return {.m = c.rows(),
                .n = c.columns(),
                .k = a.reading == Reading::as_stored ? a.columns : a.rows,
                .a_reading = a.reading,
                .b_reading = b.reading,
                .factor_type = a.type,
                .result_type = data_type_of<T>,
                .a_pitch = a.pitch,
                .b_pitch = b.pitch,
                .a_alignment = row_alignment(a.data, a.pitch, a.type),
                .b_alignment = row_alignment(b.data, b.pitch, b.type),
                .c_alignment = row_alignment(c.data(), c.columns(), data_type_of<T>)};
    }

    /// In bytes, of every row: the same wherever in a batch a matrix begins.
    [[nodiscard]] static std::uint32_t row_alignment(const void* data, Index pitch,
                                                     cudaDataType_t type) {
        constexpr std::uintptr_t widest = 16;  // what a thread loads at once
        const std::size_t element_bytes = type == CUDA_R_64F   ? sizeof(double)
                                          : type == CUDA_R_32F ? sizeof(float)
                                                               : sizeof(std::uint16_t);
        const auto address = reinterpret_cast<std::uintptr_t>(data);
        const auto pitch_bytes = static_cast<std::uintptr_t>(pitch) * element_bytes;
        return std::uint32_t{1} << std::countr_zero(address | pitch_bytes | widest);
    }

    /// The shape for which an algorithm is chosen. Routing brings another number of rows with each
    /// pass: each would be a shape of its own.
    [[nodiscard]] Shape representative(Shape shape) const {
        constexpr Index invariant_rows = 64;
        Index& rows = shape.a_reading == Reading::as_stored ? shape.m : shape.k;
        if (batch_invariant_ && shape.a_reading == Reading::as_stored) {
            rows = invariant_rows;
        } else {
            rows = static_cast<Index>(std::bit_ceil(static_cast<std::uint64_t>(rows)));
        }
        return shape;
    }

    [[nodiscard]] Plan plan_for(const Shape& shape, Problem& problem) {
        const Shape chosen = representative(shape);
        Plan plan = remembered(chosen);
        if (chosen == shape) {
            return plan;
        }
        cublasLtMatmulHeuristicResult_t result{};
        const cublasStatus_t status =
            cublasLtMatmulAlgoCheck(handle_, &problem.operation, &problem.b, &problem.a, &problem.c,
                                    &problem.c, &plan.algorithm, &result);
        if (status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes) {
            plan.workspace_bytes = result.workspaceSize;
            return plan;
        }
        check<DeviceError>(!is_invariant(shape),
                           "mor: cublasLtMatmulAlgoCheck: the algorithm for any number of rows "
                           "cannot do ",
                           shape.m, ", with ", shape.k, " and ", shape.n,
                           " columns: switch batch_invariant off");
        return remembered(shape);
    }

    /// Sums over rows have one length for each number of rows, and nothing to keep.
    [[nodiscard]] bool is_invariant(const Shape& shape) const {
        return batch_invariant_ && shape.a_reading == Reading::as_stored;
    }

    [[nodiscard]] Plan remembered(const Shape& shape) {
        const auto found = plans_.find(shape);
        if (found != plans_.end()) {
            return found->second;
        }
        if (!is_invariant(shape)) {
            // Some number of rows will ask for it: a later one then takes nothing more.
            static_cast<void>(workspace(workspace_bytes));
        }
        return plans_.emplace(shape, best_plan(shape)).first->second;
    }

    [[nodiscard]] Plan best_plan(const Shape& shape) const {
        Problem problem{shape};
        cublasLtMatmulPreferenceOpaque_t preference{};
        expect_success(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
        const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
            expect_success(
                cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof(value)),
                "cublasLtMatmulPreferenceSetAttribute");
        };
        // What splits no sum needs none.
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
               std::uint64_t{is_invariant(shape) ? 0 : workspace_bytes});
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.b_alignment);
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.a_alignment);
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.c_alignment);
        prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.c_alignment);
        // The parts of a sum that is split are kept, and added afterwards: others add them as
        // BFloat16, or in the order in which they are done.
        prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
               static_cast<std::uint32_t>(is_invariant(shape)
                                              ? CUBLASLT_REDUCTION_SCHEME_NONE
                                              : CUBLASLT_REDUCTION_SCHEME_NONE |
                                                    CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
        cublasLtMatmulHeuristicResult_t result{};
        int found = 0;
        expect_success(
            cublasLtMatmulAlgoGetHeuristic(handle_, &problem.operation, &problem.b, &problem.a,
                                           &problem.c, &problem.c, &preference, 1, &result, &found),
            "cublasLtMatmulAlgoGetHeuristic");
        check<DeviceError>(found > 0, "mor: cublasLtMatmulAlgoGetHeuristic: no algorithm for [",
                           shape.m, ", ", shape.k, "] times [", shape.k, ", ", shape.n, "]");
        expect_success(result.state, "cublasLtMatmulAlgoGetHeuristic");
        return {result.algo, result.workspaceSize};
    }

    /// What the hungriest plan may ask for, from the first that asks on, so that later ones take
    /// nothing more. Products follow one another: all use the same.
    [[nodiscard]] void* workspace(std::size_t bytes) {
        if (bytes > 0 && workspace_ == nullptr) {
            workspace_ = DeviceSpace::allocate(workspace_bytes);
        }
        return workspace_;
    }

    bool batch_invariant_;
    cublasLtHandle_t handle_ = nullptr;
    std::mutex mutex_;
    std::map<Shape, Plan> plans_;
    void* workspace_ = nullptr;
};

}  // namespace mor::cuda
