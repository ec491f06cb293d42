// SPDX-License-Identifier: Apache-2.0
//
// The next tokens of sequences whose last rows left, drawn side by side: of a large vocabulary that
// is work for all threads.
#pragma once

#include <mor/core/backend.hpp>
#include <mor/serve/sequence.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <span>
#include <vector>

namespace mor::detail {

/// A token, or what was wrong with its logits.
struct DrawnToken {
    TokenId token = 0;
    double log_probability = 0;  // if it was asked for
    std::exception_ptr error = {};
};

/// Draws for each of one or more sequences from its row of logits [sequences, vocabulary], with its
/// own sampler. Throws nothing that a sampler throws: that is with the sequence's token.
template <Backend B, class T>
void draw_tokens(const B& backend, std::span<Sequence* const> sequences, std::span<const T> logits,
                 std::vector<DrawnToken>& drawn) {
    constexpr std::size_t grain = std::size_t{1} << 14;  // logits worth another thread's while
    drawn.assign(sequences.size(), {});
    const std::size_t vocabulary = logits.size() / sequences.size();
    const auto draw = [&](Index first, Index last) {
        for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
            const auto own = logits.subspan(i * vocabulary, vocabulary);
            Sequence& sequence = *sequences[i];
            try {
                drawn[i].token = sequence.sampler.sample(own, sequence.tokens);
                if (sequence.options.wants_log_probabilities) {
                    drawn[i].log_probability = log_probability(own, drawn[i].token);
                }
            } catch (...) {
                drawn[i].error = std::current_exception();
            }
        }
    };
    if constexpr (requires { backend.parallel_for(Index{}, Index{}, draw); }) {
        backend.parallel_for(std::ssize(sequences),
                             static_cast<Index>(std::max<std::size_t>(1, grain / vocabulary)),
                             draw);
    } else {
        draw(0, std::ssize(sequences));
    }
}

}  // namespace mor::detail
