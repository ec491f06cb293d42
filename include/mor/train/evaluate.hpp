// SPDX-License-Identifier: Apache-2.0
//
// The mean language-model loss over held-out text.
#pragma once

#include <mor/model/model.hpp>
#include <mor/train/dataset.hpp>
#include <mor/train/language_model_loss.hpp>

#include <algorithm>
#include <numbers>

namespace mor {

struct EvaluationOptions {
    Index batch = 8;
    Index sequence = 256;
    Index max_windows = 1'000'000;  // spread evenly over the range if there are more
    Decision decision = Decision::causal;
    DepthControl depth = {};  // without max_depths, whose sequences would be windows
};

struct Evaluation {
    double nats_per_token = 0;
    Index tokens = 0;
    double flops_per_token = 0;  // executed by products and attention
    double mean_depth = 0;       // recursion steps a token took

    /// For byte tokens: bits per byte.
    [[nodiscard]] double bits_per_token() const { return nats_per_token / std::numbers::ln2; }
};

/// The mean loss over non-overlapping windows of a range: every token but the first is scored, the
/// last ones in a shorter window, unless max_windows asks for a sample. Throws ConfigError if an
/// option is impossible or the range is too short for a window.
template <class A, Backend B, TokenStream D>
[[nodiscard]] Evaluation evaluate(const Model<A, B>& model, Context<B>& context, const D& data,
                                  const TokenRange& range, const EvaluationOptions& options) {
    check<ConfigError>(options.batch > 0 && options.sequence > 0 && options.max_windows > 0,
                       "mor::evaluate: batch, sequence and max_windows are ", options.batch, ", ",
                       options.sequence, ", ", options.max_windows, "; expected positive numbers");
    check<ConfigError>(range.size() > options.sequence, "mor::evaluate: ", data.name(), " offers ",
                       range.size(), " tokens, one window needs ", options.sequence + 1);
    const Index scored = range.size() - 1;
    const Index available = (scored + options.sequence - 1) / options.sequence;
    const Index windows = std::min(available, options.max_windows);
    Trace<A, B> trace;
    Evaluation result;
    Tensor<double, 1, typename B::Space> sum{{1}};  // of all batches: it is copied once
    double depth = 0;
    const double flops_before = context.flops();
    for (Index first = 0; first < windows; first += options.batch) {
        WindowBatch batch;
        for (Index i = first; i < std::min(first + options.batch, windows); ++i) {
            const Index begin = i * available / windows * options.sequence;
            batch.append(data, range.first + begin, std::min(options.sequence, scored - begin));
        }
        model.forward(
            context, {batch.tokens, batch.lengths},
            {.decision = options.decision, .depth = options.depth, .computes_logits = false},
            trace);
        for (const auto& step : trace.steps) {
            depth += static_cast<double>(step.active.size());
        }
        language_model_loss(model, context, trace, batch.targets, 1.0, sum.view());
        result.tokens += std::ssize(batch.targets);
    }
    const auto tokens = static_cast<double>(result.tokens);
    result.nats_per_token = to_host(sum.view()).front() / tokens;
    result.flops_per_token = (context.flops() - flops_before) / tokens;
    result.mean_depth = depth / tokens;
    return result;
}

}  // namespace mor
