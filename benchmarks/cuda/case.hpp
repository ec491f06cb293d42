// SPDX-License-Identifier: Apache-2.0
//
// What is measured of the CUDA backend, and what comes of it: for main, which needs no nvcc.
#pragma once

#include <mor/core/types.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace benchmarks {

using mor::Index;

enum class Precision { float32, bfloat16_products };
enum class Kind { vanilla, recursive, mor };

/// A model: of a shape's name, with so many recursions of Middle-Cycle, if any.
struct Case {
    std::string shape;
    Kind kind = Kind::vanilla;
    Index num_recursions = 1;
    Precision precision = Precision::float32;
};

struct Settings {
    Index batch = 8;         // sequences of an update
    Index sequence = 2'048;  // tokens of each
    Index prompt = 512;      // tokens of a sequence before decoding
    Index decoded = 32;      // tokens of each sequence that are timed
    std::vector<Index> decode_batches = {1, 8, 32, 128};
    Index repeats = 5;          // of an update and of a prefill
    double part_seconds = 6.0;  // after which a part is not repeated again, once it has been thrice
    std::uint64_t seed = 1;     // of weights and tokens
};

/// Updates of the model, by mor::Trainer. Memory from the model's first weight on.
struct TrainingResult {
    Index tokens = 0;                       // of an update
    double flops = 0;                       // of an update, as the library counts them
    std::vector<double> seconds = {};       // of each update after warm-up
    double peak_bytes = 0;                  // of the GPU's memory, or of the process's
    double activation_bytes = 0;            // held by the trainer's arena
    double loss = 0;                        // of the last update
    std::vector<double> active_share = {};  // of the rows, in each recursion step
};

/// A prefill, or one token for each sequence.
struct PassResult {
    std::string what;  // "prefill", "decode" or "decode in graphs"
    Index batch = 0;   // sequences
    Index tokens = 0;  // of a pass
    double flops = 0;  // of a pass; in decoding, the mean
    double bytes = 0;  // must be read: of weights, in decoding of keys and values too; the same
    std::vector<double> seconds = {};  // of each pass after warm-up
};

/// Forward passes with the GPU waited for after each part of a recursion step: medians, all steps
/// of the recursion together.
struct RoutingResult {
    Index steps = 0;
    double gather_us = 0;
    double select_us = 0;
    double compact_us = 0;
    double merge_us = 0;
    double block_us = 0;
    double backward_us = 0;  // of the routers: their losses and gradients

    /// What there would not be without routing.
    [[nodiscard]] double forward_us() const {
        return gather_us + select_us + compact_us + merge_us;
    }
};

struct Result {
    Index num_parameters = 0;
    std::vector<TrainingResult> training = {};  // one
    std::vector<PassResult> passes = {};
    std::vector<RoutingResult> routing = {};  // one, if the model routes
};

/// Measures a case; see float.cpp and bfloat16.cpp. Throws mor::Error, for example if the memory is
/// too small.
Result measure_float(const Case& which, const Settings& settings);
Result measure_bfloat16(const Case& which, const Settings& settings);

/// What the program runs on, and what its memory can do.
struct Machine {
    std::string device;
    std::string driver;
    std::string toolkit;
    double memory_bytes = 0;             // of the device
    double copied_bytes_per_second = 0;  // read and written by a copy of a large part of it
};
Machine machine_under_test();

}  // namespace benchmarks
