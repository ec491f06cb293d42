// SPDX-License-Identifier: Apache-2.0
//
// How a router behaves in training (paper, section 4 and appendix): does the causal rule agree with
// top-k, is the load even, are there tokens that nobody picks.
#pragma once

#include <mor/model/trace.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

namespace mor {

/// Sigmoids of one step's scores, counted in bins of equal width over [0, 1].
struct ScoreHistogram {
    static constexpr std::size_t bins = 20;
    std::array<Index, bins> selected = {};
    std::array<Index, bins> unselected = {};
};

/// Of one forward pass. What a router does not have is empty.
struct RouterMetrics {
    // Share of candidates that the causal rule treats as top-k did; mean over steps.
    std::optional<double> sampling_accuracy = {};
    // Share of the kept candidates among as many with the best predictions; auxiliary routers only.
    std::optional<double> top_k_agreement = {};
    double dead_token_ratio = 0;              // positions that no sequence took to the last step
    double max_violation = 0;                 // (max load - mean load) / mean load over depths
    double load_entropy = 0;                  // of the loads, over log(steps): 1 is even
    std::vector<Index> depth_histogram = {};  // [steps + 1] tokens by how many steps they took
    // [steps] of expert-choice, a step's candidates; of token-choice, all tokens, each selected in
    // the last step that it takes.
    std::vector<ScoreHistogram> scores = {};
};

namespace detail {

/// The kept candidates as flags, [candidates].
[[nodiscard]] inline std::vector<char> flags_of(const std::vector<Index>& kept, std::size_t size) {
    std::vector<char> flags(size, 0);
    for (const Index index : kept) {
        flags[static_cast<std::size_t>(index)] = 1;
    }
    return flags;
}

template <class T>
[[nodiscard]] ScoreHistogram histogram_of(const std::vector<T>& scores,
                                          const std::vector<char>& kept) {
    ScoreHistogram histogram;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const double share = 1.0 / (1.0 + std::exp(-static_cast<double>(scores[i])));
        const auto bin = std::min(ScoreHistogram::bins - 1,
                                  static_cast<std::size_t>(share * ScoreHistogram::bins));
        ++(kept[i] != 0 ? histogram.selected : histogram.unselected)[bin];
    }
    return histogram;
}

/// The share of the kept candidates of each sequence that are among its best predictions, as many
/// as were kept. offsets [sequences + 1] of the candidates.
template <class T>
[[nodiscard]] double agreement(const std::vector<T>& predictions, const std::vector<char>& kept,
                               const std::vector<Index>& offsets) {
    Index agreed = 0;
    Index total = 0;
    std::vector<Index> order;
    for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
        order.resize(static_cast<std::size_t>(offsets[s + 1] - offsets[s]));
        std::iota(order.begin(), order.end(), offsets[s]);
        const auto is_kept = [&kept](Index i) { return kept[static_cast<std::size_t>(i)] != 0; };
        const auto count = std::count_if(order.begin(), order.end(), is_kept);
        std::partial_sort(order.begin(), order.begin() + count, order.end(),
                          [&predictions](Index a, Index b) {
                              const T first = predictions[static_cast<std::size_t>(a)];
                              const T second = predictions[static_cast<std::size_t>(b)];
                              return first > second || (first == second && a < b);
                          });
        agreed += std::count_if(order.begin(), order.begin() + count, is_kept);
        total += count;
    }
    return total == 0 ? 1.0 : static_cast<double>(agreed) / static_cast<double>(total);
}

/// Adds what routers with a causal rule have: expert choice.
template <class A, Backend B>
void measure_causal_rule(const typename A::Router& router, const Trace<A, B>& trace,
                         RouterMetrics& metrics) {
    double accuracy = 0;
    double best = 0;
    for (std::size_t r = 0; r < trace.steps.size(); ++r) {
        const auto& own = trace.router.steps[r];
        const auto logits =
            to_host(router.causality().template logits<B>(own.scores, own.causality));
        const auto kept = flags_of(to_host(trace.steps[r].kept), logits.size());
        Index right = 0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
            right += (logits[i] > router.causality().bound()) == (kept[i] != 0) ? 1 : 0;
        }
        accuracy +=
            logits.empty() ? 1.0 : static_cast<double>(right) / static_cast<double>(logits.size());
        best += agreement(logits, kept, to_host(trace.steps[r].view.rows.offsets));
        metrics.scores.push_back(
            histogram_of(to_host(ConstVectorView<B>{own.scores.flat()}), kept));
    }
    const auto steps = static_cast<double>(std::max<std::size_t>(1, trace.steps.size()));
    metrics.sampling_accuracy = accuracy / steps;
    if (router.causality().predicts_apart) {
        metrics.top_k_agreement = best / steps;
    }
}

/// Adds the scores of routers that decide all steps at once: token-choice.
template <class A, Backend B>
void measure_first_decision(const Trace<A, B>& trace, RouterMetrics& metrics) {
    const auto scores = to_host(ConstMatrixView<B>{trace.router.scores});
    const std::vector<Index> last = to_host(ConstIndexView<B>{trace.router.best});
    const std::size_t steps = trace.steps.size();
    for (std::size_t step = 0; step < steps; ++step) {
        std::vector<typename B::Element> own(last.size());
        std::vector<char> is_last(last.size());
        for (std::size_t row = 0; row < last.size(); ++row) {
            own[row] = scores[row * steps + step];
            is_last[row] = last[row] == static_cast<Index>(step) ? 1 : 0;
        }
        metrics.scores.push_back(histogram_of(own, is_last));
    }
}

/// Positions below the longest sequence's length that the step kept in no sequence.
template <class A, Backend B>
[[nodiscard]] double dead_positions(const Trace<A, B>& trace, const std::vector<Index>& active) {
    const std::vector<Index> positions = to_host(trace.rows.positions);
    const Index longest =
        positions.empty() ? 0 : *std::max_element(positions.begin(), positions.end()) + 1;
    std::vector<Index> taken;
    taken.reserve(active.size());
    for (const Index row : active) {
        taken.push_back(positions[static_cast<std::size_t>(row)]);
    }
    const auto alive = flags_of(taken, static_cast<std::size_t>(longest));
    return longest == 0 ? 0.0
                        : static_cast<double>(std::count(alive.begin(), alive.end(), 0)) /
                              static_cast<double>(longest);
}

/// Loads are the tokens of each depth from 1 on.
inline void measure_load(RouterMetrics& metrics) {
    const auto first = metrics.depth_histogram.begin() + 1;
    const auto steps = static_cast<double>(metrics.depth_histogram.end() - first);
    const auto total =
        static_cast<double>(std::accumulate(first, metrics.depth_histogram.end(), Index{0}));
    if (total == 0) {
        return;
    }
    const auto largest =
        static_cast<double>(*std::max_element(first, metrics.depth_histogram.end()));
    metrics.max_violation = largest * steps / total - 1;
    for (auto load = first; load != metrics.depth_histogram.end(); ++load) {
        const double share = static_cast<double>(*load) / total;
        metrics.load_entropy -= share > 0 ? share * std::log(share) : 0.0;
    }
    metrics.load_entropy = steps > 1 ? metrics.load_entropy / std::log(steps) : 1.0;
}

}  // namespace detail

/// The metrics of a pass with look-ahead, as in training; empty if nothing was routed. Reads some
/// numbers a token from the device.
template <class A, Backend B>
[[nodiscard]] std::optional<RouterMetrics> measure_routing(const typename A::Router& router,
                                                           const Trace<A, B>& trace) {
    if (trace.steps.empty()) {
        return {};
    }
    RouterMetrics metrics;
    metrics.depth_histogram.resize(trace.steps.size() + 1, 0);
    for (const Index depth : token_depths(trace)) {
        ++metrics.depth_histogram[static_cast<std::size_t>(depth)];
    }
    metrics.dead_token_ratio = detail::dead_positions(trace, to_host(trace.steps.back().active));
    detail::measure_load(metrics);
    if constexpr (requires { router.causality(); }) {
        detail::measure_causal_rule(router, trace, metrics);
    } else if constexpr (requires { trace.router.best; }) {
        detail::measure_first_decision(trace, metrics);
    }
    return metrics;
}

}  // namespace mor
