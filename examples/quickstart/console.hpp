// SPDX-License-Identifier: Apache-2.0
//
// What the quickstart prints while it works: one live line on a terminal, plain lines elsewhere.
#pragma once

#include "../depth_colours.hpp"
#include <mor/mor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numbers>
#include <string>
#include <utility>

namespace quickstart {

/// "1m05s"
[[nodiscard]] inline std::string format_time(double seconds) {
    const auto whole = std::lround(seconds);
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%ldm%02lds", whole / 60, whole % 60);
    return text.data();
}

/// The running state of one training, smoothed over about 20 steps.
class Progress {
public:
    explicit Progress(std::string name) : name_{std::move(name)} {}

    void show(const mor::StepReport& report, mor::Index steps) {
        steps_ = steps;
        const double keep = std::min(0.95, 1.0 - 1.0 / static_cast<double>(report.step));
        bits_ = keep * bits_ + (1 - keep) * report.loss / std::numbers::ln2;
        seconds_ += report.seconds;
        tokens_ += static_cast<double>(report.tokens);
        const bool last = report.step == steps_;
        if (examples::is_terminal()) {
            std::printf("\r\033[K%s%s", line(report).c_str(), last ? "\n" : "");
        } else if (last || report.step * 10 / steps_ != (report.step - 1) * 10 / steps_) {
            std::printf("%s\n", line(report).c_str());
        }
        std::fflush(stdout);
    }

    [[nodiscard]] double bits_per_byte() const { return bits_; }
    [[nodiscard]] double seconds() const { return seconds_; }
    [[nodiscard]] double tokens() const { return tokens_; }

private:
    [[nodiscard]] std::string line(const mor::StepReport& report) const {
        const auto done = static_cast<double>(report.step);
        const double left = seconds_ / done * static_cast<double>(steps_ - report.step);
        std::array<char, 200> text{};
        std::snprintf(text.data(), text.size(),
                      "  %-22s %3.0f %%  loss %.3f  %.3f bits/byte  %6.0f tokens/s  %s left",
                      name_.c_str(), 100 * done / static_cast<double>(steps_), report.loss, bits_,
                      tokens_ / seconds_, format_time(left).c_str());
        std::string result = text.data();
        for (std::size_t r = 0; r < report.active_share.size(); ++r) {
            std::snprintf(text.data(), text.size(), "%s%.0f", r == 0 ? "  active % " : "/",
                          100 * report.active_share[r]);
            result += text.data();
        }
        return result;
    }

    std::string name_;
    mor::Index steps_ = 0;
    double bits_ = 0;
    double seconds_ = 0;
    double tokens_ = 0;
};

}  // namespace quickstart
