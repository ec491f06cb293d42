// SPDX-License-Identifier: Apache-2.0
//
// The kernels of the CUDA backend on the GPU. For nvcc; see docs/cuda.md.
#pragma once

#include <mor/backends/cuda/device_error.hpp>
#include <mor/backends/cuda/device_product.hpp>
#include <mor/backends/cuda/device_space.hpp>
#include <mor/backends/cuda/device_team.hpp>
#include <mor/backends/cuda/rounded_factor.hpp>
#include <mor/backends/cuda/system.hpp>
#include <mor/core/bfloat16.hpp>

#include <cub/device/device_radix_sort.cuh>
#include <thrust/system/cuda/execution_policy.h>
#include <thrust/system_error.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cuda_runtime.h>
#include <limits>
#include <memory>
#include <mutex>
#include <source_location>
#include <sstream>
#include <string_view>

namespace mor::cuda {

/// Where kernels run: the device that is CUDA's current one when the first DeviceSystem of the
/// process is made. Copies share what they keep. Several host threads may use one at once: the GPU
/// does what they ask for one after another.
class DeviceSystem {
public:
    using Space = DeviceSpace;
    using Team = DeviceTeam;
    static constexpr std::string_view name = "cuda";

    struct Options {
        /// So much memory is taken from the GPU at once, so that there is enough or an error.
        Index memory_bytes = 0;
        /// A row of a product does not depend, to the bit, on how many other rows there are. Off,
        /// each number of rows has the algorithm that cuBLASLt deems the fastest for it.
        bool batch_invariant = true;
        /// Waits after each kernel, so that an error names it: to find mistakes.
        bool waits = false;
        /// Work gathers until somebody waits for it, of the whole process, while such a system
        /// exists. What gathers the same way a second time becomes a CUDA graph: a decoding step
        /// or a training step is then one launch, or one between two waits. Errors of launches
        /// show where somebody waits.
        bool graphs = false;
    };

    DeviceSystem() : DeviceSystem{Options{}} {}

    /// Throws DeviceError if there is no driver or one that is too old, no GPU, one for which this
    /// program was not compiled, or too little memory; ConfigError if memory_bytes is negative.
    explicit DeviceSystem(const Options& options) : waits_{options.waits} {
        check<ConfigError>(options.memory_bytes >= 0, "mor::cuda::DeviceSystem: memory_bytes is ",
                           options.memory_bytes, ", expected 0 or more");
        expect_code_for(detail::Device::get());
        if (options.memory_bytes > 0) {
            // The pool keeps what it once took.
            Space::deallocate(Space::allocate(static_cast<std::size_t>(options.memory_bytes)));
            Space::wait();
        }
        state_ = std::make_shared<State>(options);
    }

    /// Body: copyable as bytes, callable on the device as body(i).
    template <class Body>
    void for_each(Index n, const Body& body) const {
        constexpr Index threads = Team::num_threads;
        launch((n + threads - 1) / threads, 0, detail::run_each<Body>, n, body);
    }

    /// Body: copyable as bytes, callable on the device as body(team, i).
    template <class Body>
    void for_each_team(Index n, const Body& body) const {
        for_each_team(n, 0, body);
    }
    /// The same with shared memory for each team. Throws DeviceError if it is more than a block of
    /// this GPU can have.
    template <class Body>
    void for_each_team(Index n, std::size_t shared_bytes, const Body& body) const {
        launch(n, shared_bytes, detail::run_teams<Body>, n, body);
    }

    /// Algorithms whose result is a number wait for it; the others do not. Throws DeviceError,
    /// which names the call.
    template <class Allocator, class Algorithm>
    auto run_algorithm(std::string_view call, Allocator& allocator,
                       const Algorithm& algorithm) const {
        detail::command_queue().flush();
        try {
            return algorithm(
                thrust::cuda::par_nosync(allocator).on(detail::Device::get().stream()));
        } catch (const thrust::system_error& error) {
            static_cast<void>(cudaGetLastError());  // kept for whoever asks next
            fail<DeviceError>("mor: ", call, ": ", error.what());
        }
    }

    [[nodiscard]] Index sort_bytes(Index n) const {
        detail::Device::get().make_current();
        std::size_t bytes = 0;
        expect_success(SortByToken::run(nullptr, bytes, {}, n, nullptr), "cub::DeviceRadixSort");
        return static_cast<Index>(bytes);
    }
    void sort(const RowsByToken<Space>& by_token, View<std::byte, 1, Space> memory) const {
        if (!by_token.tokens.empty()) {
            hand_over(SortByToken{by_token, memory}, "cub::DeviceRadixSort");
        }
    }

    /// See product.hpp.
    template <std::floating_point T>
    void product(const Factor<T, Space>& a, const Factor<T, Space>& b, View<T, 2, Space> c,
                 Write write) const {
        if (has_terms(a, c, write)) {
            multiply(operand(a), operand(b), c, write);
        }
    }

    /// The same with both factors rounded to the nearest BFloat16: each a Factor<float, Space>, or
    /// a RoundedFactor<Space>, which is so already. Sums are in float; c is of float, or of
    /// BFloat16, to which they are rounded once.
    template <class A, class B, class C>
    void product_of_rounded(const A& a, const B& b, View<C, 2, Space> c, Write write) const {
        if (has_terms(a, c, write)) {
            // The factors' memory is used again by the next product, which comes after this one.
            const std::lock_guard lock{state_->rounding};
            multiply(operand(rounded(a, state_->a)), operand(rounded(b, state_->b)), c, write);
        }
    }

    /// The device's name, as NVIDIA writes it.
    [[nodiscard]] std::string_view device_name() const { return detail::Device::get().name(); }

private:
    /// Memory that grows until passes repeat.
    struct Scratch {
        Scratch() = default;
        Scratch(const Scratch&) = delete;
        Scratch& operator=(const Scratch&) = delete;
        ~Scratch() {
            if (data != nullptr) {
                Space::deallocate(data);
            }
        }
        void* at_least(std::size_t wanted) {
            if (wanted > bytes) {
                void* const larger = Space::allocate(wanted);
                if (data != nullptr) {
                    Space::deallocate(data);
                }
                data = larger;
                bytes = wanted;
            }
            return data;
        }
        void* data = nullptr;
        std::size_t bytes = 0;
    };

    struct State {
        explicit State(const Options& options)
            : products{options.batch_invariant}, graphs{options.graphs} {
            if (graphs) {
                detail::command_queue().begin_graphs();
            }
        }
        State(const State&) = delete;
        State& operator=(const State&) = delete;
        ~State() {
            detail::command_queue().forget();  // the products and their memory
            if (graphs) {
                detail::command_queue().end_graphs();
            }
        }
        DeviceProducts products;
        bool graphs;
        std::mutex rounding;
        Scratch a;
        Scratch b;
    };

    template <class T>
    [[nodiscard]] static ProductFactor operand(const Factor<T, Space>& factor) {
        return {.data = factor.matrix.data(),
                .type = data_type_of<T>,
                .rows = factor.matrix.rows(),
                .columns = factor.matrix.columns(),
                .pitch = factor.matrix.columns(),
                .reading = factor.reading};
    }

    [[nodiscard]] static ProductFactor operand(const RoundedFactor<Space>& factor) {
        return {.data = factor.matrix.data(),
                .type = CUDA_R_16BF,
                .rows = factor.matrix.rows(),
                .columns = factor.stored_columns,
                .pitch = factor.matrix.columns(),
                .reading = factor.reading};
    }

    [[nodiscard]] RoundedFactor<Space> rounded(const Factor<float, Space>& factor,
                                               Scratch& memory) const {
        const View<const float, 2, Space> from = factor.matrix;
        const Index pitch = rounded_pitch(from.columns());
        const auto bytes = static_cast<std::size_t>(from.rows() * pitch) * sizeof(BFloat16);
        const View<BFloat16, 2, Space> to{static_cast<BFloat16*>(memory.at_least(bytes)),
                                          {from.rows(), pitch}};
        round_rows(*this, from, to);
        return {to, from.columns(), factor.reading};
    }

    [[nodiscard]] static const RoundedFactor<Space>& rounded(const RoundedFactor<Space>& factor,
                                                             Scratch& /*memory*/) {
        return factor;
    }

    /// Whether there is something to multiply; else c is what an empty sum makes of it.
    template <class A, class T>
    [[nodiscard]] static bool has_terms(const A& a, View<T, 2, Space> c, Write write) {
        if (c.empty()) {
            return false;
        }
        if (a.columns() == 0 && write == Write::overwrite) {
            Space::zero(c.data(), static_cast<std::size_t>(c.size()) * sizeof(T));
        }
        return a.columns() > 0;
    }

    static void expect_code_for(const detail::Device& device) {
        device.make_current();
        cudaFuncAttributes attributes{};
        const cudaError_t status = cudaFuncGetAttributes(&attributes, detail::probe<void>);
        if (status != cudaSuccess) {
            int major_version = 0;
            int minor_version = 0;
            static_cast<void>(cudaDeviceGetAttribute(
                &major_version, cudaDevAttrComputeCapabilityMajor, device.ordinal()));
            static_cast<void>(cudaDeviceGetAttribute(
                &minor_version, cudaDevAttrComputeCapabilityMinor, device.ordinal()));
            std::ostringstream compiled_for;
            for (const int architecture : {__CUDA_ARCH_LIST__}) {
                compiled_for << " sm_" << architecture / 10;
            }
            expect_success(status, "cudaFuncGetAttributes", ": device ", device.ordinal(), " (",
                           device.name(), ") is sm_", major_version, minor_version,
                           ", this program was compiled for", compiled_for.str());
        }
    }

    template <class Body>
    struct Launch {
        void (*kernel)(Index, Body);
        Index blocks;
        std::size_t shared_bytes;
        Index n;
        Body body;

        void operator()() const {
            constexpr Index most_blocks = std::numeric_limits<int>::max();
            const cudaStream_t stream = detail::Device::get().stream();
            // 48 KiB, but for what a team's sums take. Never less than before, for there may be
            // graphs with that. (Commands are handed over one at a time.)
            static std::size_t most_shared = 47 * 1'024;
            if (shared_bytes > most_shared) {
                expect_success(
                    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared_bytes)),
                    "cudaFuncSetAttribute", ": ", shared_bytes, " bytes of shared memory for ",
                    name_of<Body>());
                most_shared = shared_bytes;
            }
            cudaLaunchConfig_t config{};
            config.gridDim = dim3{static_cast<unsigned>(std::min(blocks, most_blocks))};
            config.blockDim = dim3{Team::num_threads};
            config.dynamicSmemBytes = shared_bytes;
            config.stream = stream;
            expect_success(cudaLaunchKernelEx(&config, kernel, n, body), "cudaLaunchKernelEx", ": ",
                           name_of<Body>());
        }
    };

    struct SortByToken {
        RowsByToken<Space> by_token;
        View<std::byte, 1, Space> memory;

        void operator()() const {
            auto bytes = static_cast<std::size_t>(memory.size());
            expect_success(run(memory.data(), bytes, by_token, by_token.tokens.size(),
                               detail::Device::get().stream()),
                           "cub::DeviceRadixSort");
        }
        /// Without memory it says how many bytes it needs.
        static cudaError_t run(void* memory, std::size_t& bytes, const RowsByToken<Space>& by_token,
                               Index n, cudaStream_t stream) {
            constexpr int token_bits = std::numeric_limits<std::uint32_t>::digits;
            return cub::DeviceRadixSort::SortPairs(
                memory, bytes, by_token.tokens.data(), by_token.sorted_tokens.data(),
                by_token.rows.data(), by_token.sorted_rows.data(), n, 0, token_bits, stream);
        }
    };

    template <class T>
    struct Multiplication {
        DeviceProducts* products;
        ProductFactor a;
        ProductFactor b;
        View<T, 2, Space> c;
        Write write;

        void operator()() const { products->run(a, b, c, write); }
    };

    template <class Body>
    void launch(Index blocks, std::size_t shared_bytes, void (*kernel)(Index, Body), Index n,
                const Body& body) const {
        if (n > 0) {
            hand_over(Launch<Body>{kernel, blocks, shared_bytes, n, body}, name_of<Body>());
        }
    }

    template <class T>
    void multiply(const ProductFactor& a, const ProductFactor& b, View<T, 2, Space> c,
                  Write write) const {
        hand_over(Multiplication<T>{&state_->products, a, b, c, write}, "cublasLtMatmul");
    }

    template <class Command>
    void hand_over(const Command& command, std::string_view what) const {
        detail::command_queue().add(command);
        if (waits_) {
            detail::command_queue().flush();
            expect_success(cudaStreamSynchronize(detail::Device::get().stream()),
                           "cudaStreamSynchronize", ": after ", what);
        }
    }

    /// Has the name of the kernel that the body is from.
    template <class Body>
    [[nodiscard]] static std::string_view name_of() {
        return std::source_location::current().function_name();
    }

    bool waits_;
    std::shared_ptr<State> state_;
};
static_assert(System<DeviceSystem>);

}  // namespace mor::cuda
