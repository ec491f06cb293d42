// SPDX-License-Identifier: Apache-2.0
//
// Token streams: what a trainer reads windows from, and how a held-out part is kept apart.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/random.hpp>
#include <mor/core/types.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mor {

/// One long stream of tokens with random access. `name()` tells errors where it comes from.
template <class D>
concept TokenStream = requires(const D& data, Index offset, std::span<TokenId> out) {
    { data.size() } -> std::same_as<Index>;
    { data.name() } -> std::convertible_to<std::string>;
    data.read(offset, out);
};

/// Tokens [first, last) of a stream.
struct TokenRange {
    Index first = 0;
    Index last = 0;

    [[nodiscard]] Index size() const { return last - first; }
};

struct DataSplit {
    TokenRange training;
    TokenRange held_out;
};

/// The first part for training, the last `held_out` tokens for evaluation; they never overlap.
/// Throws ConfigError, naming the stream, if either part is too short for one window of `window`
/// tokens and its target.
template <TokenStream D>
[[nodiscard]] DataSplit split(const D& data, Index held_out, Index window) {
    const DataSplit parts{{0, std::max<Index>(0, data.size() - held_out)},
                          {std::max<Index>(0, data.size() - held_out), data.size()}};
    check<ConfigError>(parts.training.size() > window && parts.held_out.size() > window,
                       "mor::split: ", data.name(), " has ", data.size(), " tokens, ",
                       parts.held_out.size(),
                       " of them held out; both parts need more than one "
                       "window of ",
                       window);
    return parts;
}

/// Windows of one size with their targets, packed for a model: sequence s reads `length` tokens
/// and predicts the `length` tokens that begin one later.
struct WindowBatch {
    std::vector<TokenId> tokens;   // [windows * length]
    std::vector<TokenId> targets;  // [windows * length]
    std::vector<Index> lengths;    // [windows]

    template <TokenStream D>
    void append(const D& data, Index offset, Index length) {
        window.resize(static_cast<std::size_t>(length + 1));
        data.read(offset, window);
        tokens.insert(tokens.end(), window.begin(), window.end() - 1);
        targets.insert(targets.end(), window.begin() + 1, window.end());
        lengths.push_back(length);
    }

    void clear() {
        tokens.clear();
        targets.clear();
        lengths.clear();
    }

private:
    std::vector<TokenId> window;
};

/// `windows` random windows of a range. The draw depends on (seed, draw) alone, so that a resumed
/// run sees the same data. A batch that is given is overwritten: its memory is used again.
template <TokenStream D>
[[nodiscard]] WindowBatch random_windows(const D& data, const TokenRange& range, Index windows,
                                         Index length, std::uint64_t seed, std::uint64_t draw,
                                         WindowBatch batch = {}) {
    check<ConfigError>(range.size() > length, "mor::random_windows: ", data.name(), " offers ",
                       range.size(), " tokens, one window needs ", length + 1);
    Random random{seed, draw};
    batch.clear();
    for (Index i = 0; i < windows; ++i) {
        batch.append(data, range.first + random.below(range.size() - length), length);
    }
    return batch;
}

}  // namespace mor
