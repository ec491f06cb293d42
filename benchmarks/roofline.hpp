// SPDX-License-Identifier: Apache-2.0
//
// What this machine can do at most, measured: fused multiply-adds, and reading memory.
#pragma once

#include <mor/backends/cpu/cpu.hpp>
#include <mor/backends/cpu/packed_weight.hpp>
#include <mor/core/tensor.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>

namespace benchmarks {

using mor::Index;

struct Roofline {
    double flops = 0;                         // a second, of float factors
    double bfloat16_flops = 0;                // a second, of bfloat16 factors with float sums
    double bytes = 0;                         // read from memory, a second
    std::array<double, 3> cached_bytes = {};  // read from the caches of level 1, 2 and 3, a second

    /// Operations a second of the products of a backend.
    template <class Backend>
    [[nodiscard]] double flops_of() const {
        constexpr bool rounds = std::same_as<Backend, mor::Cpu<float, mor::BFloat16>>;
        return rounds ? bfloat16_flops : flops;
    }
};

namespace detail {

/// Seconds of the fastest call of so many milliseconds' calls: what a machine shared with others
/// could do, and did once.
template <class Function>
[[nodiscard]] double fastest(Function&& function, int milliseconds = 2'000) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::milliseconds{milliseconds};
    double best = 1e9;
    for (auto start = Clock::now(); start < end;) {
        function();
        const auto stop = Clock::now();
        best = std::min(best, std::chrono::duration<double>(stop - start).count());
        start = stop;
    }
    return best;
}

/// Operations of independent chains of fused multiply-adds, all threads together.
template <class Factor>
[[nodiscard]] double measure_flops(const mor::Cpu<float>& cpu) {
    using namespace mor::cpu::detail;
    using F = ProductFactors<float, Factor>;
    constexpr Index rounds = 1'000'000;
    constexpr std::size_t chains = 12;
    alignas(64)
        std::array<typename F::Stored, static_cast<std::size_t>(packet_size<float> * F::group)>
            values;
    values.fill(F::round(0.5F));
    benchmark::DoNotOptimize(values);  // factors that are known would be, too
    const double seconds = fastest([&] {
        cpu.parallel_for(cpu.threads(), 1, [&](Index, Index) {
            std::array<Lanes<float>, chains> sums;
            // Chains that are alike would be computed once.
            for (std::size_t chain = 0; chain < chains; ++chain) {
                sums[chain] = {Eigen::internal::pset1<Packet<float>>(static_cast<float>(chain))};
            }
            const auto left = F::broadcast(values.data());
            const auto right = F::load(values.data());
            for (Index i = 0; i < rounds; ++i) {
                for (auto& sum : sums) {
                    sum = F::multiply_add(left, right, sum);
                }
            }
            float result = 0;
            for (auto& sum : sums) {
                result += Eigen::internal::predux(sum.packet);
            }
            benchmark::DoNotOptimize(result);
        });
    });
    const Index each = rounds * static_cast<Index>(chains) * packet_size<float> * F::group;
    return 2.0 * static_cast<double>(each * cpu.threads()) / seconds;
}

/// Bytes a second, reading `bytes` for each thread `rounds` times.
[[nodiscard]] inline double measure_bytes(const mor::Cpu<float>& cpu, Index bytes, Index rounds,
                                          int milliseconds = 2'000) {
    using namespace mor::cpu::detail;
    using namespace Eigen::internal;
    constexpr Index unrolled = 8;
    constexpr Index line = unrolled * packet_size<float>;
    const Index count = bytes / static_cast<Index>(sizeof(float)) / line * line;
    mor::Tensor<float, 1> memory{{count * cpu.threads()}};  // aligned
    std::fill_n(memory.view().data(), memory.size(), 1.0F);
    const double seconds = fastest(
        [&] {
            cpu.parallel_for(cpu.threads(), 1, [&](Index thread, Index) {
                const float* const own = memory.view().data() + thread * count;
                std::array<Lanes<float>, unrolled> sums;
                sums.fill({pset1<Packet<float>>(0.0F)});
                for (Index round = 0; round < rounds; ++round) {
                    for (Index i = 0; i < count; i += line) {
                        for (Index j = 0; j < unrolled; ++j) {
                            auto& sum = sums[static_cast<std::size_t>(j)].packet;
                            sum =
                                padd(sum, ploadu<Packet<float>>(own + i + j * packet_size<float>));
                        }
                    }
                }
                float result = 0;
                for (auto& sum : sums) {
                    result += predux(sum.packet);
                }
                benchmark::DoNotOptimize(result);
            });
        },
        milliseconds);
    return static_cast<double>(count * static_cast<Index>(sizeof(float)) * rounds * cpu.threads()) /
           seconds;
}

}  // namespace detail

/// Bytes a second read from memory, now: on a machine shared with others it is not what it was a
/// minute ago.
[[nodiscard]] inline double measure_memory_now() {
    return detail::measure_bytes(mor::Cpu<float>{}, Index{1} << 27, 1, 200);
}

/// Bytes a second from the cache of a level, of which each thread reads half of what is its own; 0
/// where the system does not say how large it is.
[[nodiscard]] inline double measure_cache(const mor::Cpu<float>& cpu, int level) {
    constexpr Index read_by_a_thread = Index{1} << 30;
    for (const auto& cache : benchmark::CPUInfo::Get().caches) {
        if (cache.level == level && cache.type != "Instruction") {
            const Index sharing = std::min<Index>(cpu.threads(), cache.num_sharing);
            const Index bytes = Index{cache.size} / 2 / std::max<Index>(1, sharing);
            return detail::measure_bytes(cpu, bytes, read_by_a_thread / bytes);
        }
    }
    return 0;
}

/// Of all of the backend's threads together.
[[nodiscard]] inline Roofline measure_roofline(const mor::Cpu<float>& cpu) {
    return {.flops = detail::measure_flops<float>(cpu),
            .bfloat16_flops = detail::measure_flops<mor::BFloat16>(cpu),
            .bytes = detail::measure_bytes(cpu, Index{1} << 28, 1),
            .cached_bytes = {measure_cache(cpu, 1), measure_cache(cpu, 2), measure_cache(cpu, 3)}};
}

/// Adds the operations and bytes of one iteration, and their shares of what the machine can do; for
/// operations that are products of `Backend`.
template <class Backend = mor::Cpu<float>>
void report(benchmark::State& state, const Roofline& roofline, double flops, double bytes) {
    using benchmark::Counter;
    const auto rate = [&](double each) {
        return Counter(each * static_cast<double>(state.iterations()), Counter::kIsRate);
    };
    state.counters["flop/s"] = rate(flops);
    state.counters["byte/s"] = rate(bytes);
    state.counters["of_flops"] = rate(flops / roofline.flops_of<Backend>());
    state.counters["of_memory"] = rate(bytes / roofline.bytes);
}

}  // namespace benchmarks
