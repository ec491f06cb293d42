// SPDX-License-Identifier: Apache-2.0
//
// The backends and precisions a case runs on; each is compiled on its own. Which of them a program
// runs says runs_under_test.hpp, and the include path which of several.
#pragma once

#include "parity/case.hpp"
#include "parity/comparison.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

namespace parity {

void run_on_cpu_float(const Case& reference, Comparison& comparison);
void run_on_cpu_bfloat16(const Case& reference, Comparison& comparison);
void run_on_cpu_double(const Case& reference, Comparison& comparison);
void run_on_reference_double(const Case& reference, Comparison& comparison);
void run_on_cuda_host_float(const Case& reference, Comparison& comparison);
void run_on_cuda_host_bfloat16(const Case& reference, Comparison& comparison);
void run_on_cuda_host_float_activations(const Case& reference, Comparison& comparison);
void run_on_cuda_host_double(const Case& reference, Comparison& comparison);

struct Run {
    const char* name;
    Tolerance tolerance;
    void (*run)(const Case&, Comparison&);
    const Run* rounding = nullptr;  // the same with factors of products rounded to 8 bits
    std::span<const std::string_view> leaves_out = {};  // cases
    const Run* otherwise = nullptr;                     // what rounds less, for these
};

/// Factors of products rounded to 8 bits instead of 24: a case's own tolerance is what rounding to
/// 24 bits does to it, times 2^16, with one more bit of room because errors do not add up alike.
[[nodiscard]] inline Tolerance rounding_tolerance(const Comparison& in_float) {
    constexpr double amplification = 0x1.0p17;
    const double values =
        std::max({in_float.largest_error(Kind::activations), in_float.largest_error(Kind::losses),
                  in_float.largest_error(Kind::decode)});
    return {amplification * values, amplification * in_float.largest_error(Kind::gradients)};
}
/// Here one token's best depth leads by 0.2 % of the largest logit, less than 8 bits resolve.
inline constexpr std::array<std::string_view, 1> too_close_to_round = {"tc_sigmoid"};
/// Where activations are rounded too, other tokens change places in these, of which one leads by
/// 0.01 % to 0.32 %.
inline constexpr std::array<std::string_view, 5> too_close_for_activations = {
    "ec_aux_router", "ec_nofunc", "ec_unweighted", "tc_base", "tc_sigmoid"};

}  // namespace parity
