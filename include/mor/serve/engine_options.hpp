// SPDX-License-Identifier: Apache-2.0
//
// How an engine is set up, and what it tells about itself.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <functional>
#include <span>

namespace mor {

/// The part of the model that one call runs.
enum class EnginePart {
    enter,         // embedding and first layers
    shared_block,  // one recursion step
    leave,         // last layers, and head for the rows whose next token is drawn
    draw           // of these tokens
};

/// One call of a part, for watching an engine at work.
struct EngineCall {
    EnginePart part = EnginePart::shared_block;
    Index rows = 0;
    std::span<const Index> steps = {};  // [rows] of the shared block; valid during the callback
    double seconds = 0;                 // of the part alone
    Index cache_bytes = 0;              // of blocks in use
};

struct EngineOptions {
    Index max_batch = 32;          // rows of one call, at most 16,384
    Index max_sequences = 0;       // admitted at once; 0: 2 * max_batch
    Index prefill_chunk = 0;       // rows of one sequence in a call; 0: a quarter of max_batch
    Index cache_bytes = 1L << 28;  // of keys and values, allocated at once
    Index block_size = 16;         // entries of a cache block, at most 64
    // The share of max_new_tokens that answers take before a stop token, as far as admission is to
    // reckon with it. What is too low costs preemptions, what is too high unused memory.
    double expected_length = 1.0;
    Index max_prefixes = 8;  // beginnings whose keys are kept for requests that begin alike
    // Called at the end of a step for each of its calls, on the engine's thread. What it throws
    // leaves `step`, and the step's other calls go unreported; the engine can go on.
    std::function<void(const EngineCall&)> on_call = {};
};

/// What an engine did since it was made.
struct EngineCounts {
    Index requests = 0;
    Index tokens = 0;         // produced
    Index preemptions = 0;    // sequences that gave up their memory and began again
    Index reused_tokens = 0;  // tokens whose keys came from an earlier request
    Index ended_tokens = 0;   // read by sequences that ended: what these held keys and values of,
    Index ended_bytes = 0;    // and how much that was
    Index cache_bytes = 0;    // in use now
    Index running = 0;        // sequences, now
    Index waiting = 0;
};

namespace detail {

/// The options with their defaults filled in. Throws ConfigError if one is out of range.
[[nodiscard]] inline EngineOptions checked(EngineOptions options) {
    constexpr Index most_rows = 1 << 14;
    check<ConfigError>(options.max_batch >= 1 && options.max_batch <= most_rows,
                       "mor::Engine: max_batch is ", options.max_batch, ", expected 1 to ",
                       most_rows);
    check<ConfigError>(options.prefill_chunk >= 0, "mor::Engine: prefill_chunk is ",
                       options.prefill_chunk, ", expected 0 or more");
    check<ConfigError>(options.max_sequences >= 0, "mor::Engine: max_sequences is ",
                       options.max_sequences, ", expected 0 or more");
    check<ConfigError>(options.block_size >= 1 && options.block_size <= 64,
                       "mor::Engine: block_size is ", options.block_size, ", expected 1 to 64");
    check<ConfigError>(options.cache_bytes > 0, "mor::Engine: cache_bytes is ", options.cache_bytes,
                       ", expected more than 0");
    check<ConfigError>(options.expected_length >= 0 && options.expected_length <= 1,
                       "mor::Engine: expected_length is ", options.expected_length,
                       ", expected 0 to 1");
    check<ConfigError>(options.max_prefixes >= 0, "mor::Engine: max_prefixes is ",
                       options.max_prefixes, ", expected 0 or more");
    if (options.prefill_chunk == 0) {
        options.prefill_chunk = std::max<Index>(1, options.max_batch / 4);
    }
    if (options.max_sequences == 0) {
        options.max_sequences = 2 * options.max_batch;
    }
    return options;
}

}  // namespace detail
}  // namespace mor
