// SPDX-License-Identifier: Apache-2.0
//
// Where the time of a recursion step goes.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/core/types.hpp>
#include <mor/model/observer.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <utility>

namespace benchmarks {

/// Returns when the backend has done all that it was asked for.
template <class B>
void wait_for() {
    if constexpr (requires { B::Space::wait(); }) {
        B::Space::wait();
    }
}

/// Adds up time and operations between the events of a pass, by part of a recursion step. A GPU is
/// waited for at each event.
template <class B>
class Stopwatch {
public:
    explicit Stopwatch(const mor::Context<B>& context) : context_{context} {}

    void operator()(const mor::PhaseSeen<B>& seen) {
        const auto phase = static_cast<std::size_t>(seen.phase);
        const double flops = context_.flops();
        flops_[phase] += flops - last_flops_;
        seconds_[phase] += since_last();
        last_flops_ = flops;
    }
    // What lies between the steps belongs to none.
    void operator()(const mor::StepSeen<B>& /*seen*/) { skip(); }
    void operator()(const mor::LayerSeen<B>& seen) {
        if (seen.step < 0) {
            skip();
        }
    }

    [[nodiscard]] double seconds(mor::StepPhase phase) const {
        return seconds_[static_cast<std::size_t>(phase)];
    }
    [[nodiscard]] double flops(mor::StepPhase phase) const {
        return flops_[static_cast<std::size_t>(phase)];
    }

private:
    using Clock = std::chrono::steady_clock;

    double since_last() {
        wait_for<B>();
        const auto now = Clock::now();
        return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
    }
    void skip() {
        wait_for<B>();
        last_flops_ = context_.flops();
        last_ = Clock::now();
    }

    const mor::Context<B>& context_;
    Clock::time_point last_ = Clock::now();
    double last_flops_ = 0;
    std::array<double, mor::num_step_phases> seconds_{};
    std::array<double, mor::num_step_phases> flops_{};
};

}  // namespace benchmarks
