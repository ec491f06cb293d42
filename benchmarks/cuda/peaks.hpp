// SPDX-License-Identifier: Apache-2.0
//
// Operations a second that GPUs are sold with, by CUDA's name of the device.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace benchmarks {

/// A second, without sparsity.
struct Peaks {
    double float32 = 0;  // of the ordinary cores: TF32 is not used
    double bfloat16 = 0;
};

/// Nothing for a device that is not in the table.
[[nodiscard]] constexpr std::optional<Peaks> peaks_of(std::string_view device) {
    struct Entry {
        std::string_view beginning;
        Peaks peaks;
    };
    constexpr std::array entries{
        // NVIDIA H100 Tensor Core GPU datasheet, H100 SXM: FP32 67 teraFLOPS, BFLOAT16 1,979 with
        // sparsity, half of it without.
        Entry{"NVIDIA H100 80GB HBM3", {67e12, 989e12}},
        // NVIDIA H200 Tensor Core GPU datasheet, H200 SXM: the same numbers.
        Entry{"NVIDIA H200", {67e12, 989e12}},
        // NVIDIA A100 Tensor Core GPU datasheet: FP32 19.5 TFLOPS, BFLOAT16 312.
        Entry{"NVIDIA A100", {19.5e12, 312e12}},
    };
    // Slower than the SXM module, and not in the table.
    if (device == "NVIDIA H200 NVL") {
        return std::nullopt;
    }
    for (const Entry& entry : entries) {
        if (device.starts_with(entry.beginning)) {
            return entry.peaks;
        }
    }
    return std::nullopt;
}
static_assert(peaks_of("NVIDIA H200")->bfloat16 == 989e12);
static_assert(peaks_of("NVIDIA A100-SXM4-80GB")->float32 == 19.5e12);
static_assert(!peaks_of("NVIDIA H100 PCIe") && !peaks_of("NVIDIA H200 NVL") && !peaks_of(""));

}  // namespace benchmarks
