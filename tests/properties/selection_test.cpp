// SPDX-License-Identifier: Apache-2.0
//
// Which tokens take which step, for random models and batches: as many as the schedule says, only
// those that took the step before, and the same ones in every run and on any number of threads.
#include <properties/random_models.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <vector>

namespace {

using namespace mor::test;
using mor::Decision;
using mor::Index;

/// Large enough that the work is really divided among threads.
template <class A>
Example any_large_example() {
    const Index longest = 130;
    std::vector<Index> lengths = any_lengths(0, 3, longest);
    lengths.push_back(*uniform(64, longest).as("last length"));
    const Setting setting = any_setting<A>(longest, *uniform(32, 48).as("hidden size"));
    return {setting, any_sequences(lengths, setting.config.vocab_size)};
}

/// The rows that took each step, [steps].
template <class A>
std::vector<std::vector<Index>> active_rows(const Example& example, Decision decision) {
    Processor processor{{.threads = 1}};
    const auto model = make_model<A>(processor, example.setting);
    mor::Context<Processor> context{processor};
    mor::Trace<A, Processor> trace;
    model.forward(context, example.sequences.batch(), {.decision = decision}, trace);
    std::vector<std::vector<Index>> rows;
    for (const auto& step : trace.steps) {
        rows.push_back(mor::to_host(step.active));
    }
    return rows;
}

/// The schedule's fraction of a sequence; something of it always goes on.
Index scheduled_count(const Setting& setting, std::size_t step, Index length) {
    const auto steps = static_cast<double>(setting.num_steps);
    const double capacity = setting.capacities.empty() ? (steps - static_cast<double>(step)) / steps
                                                       : setting.capacities[step];
    const double share = std::floor(capacity * static_cast<double>(length));
    return std::min(length, std::max<Index>(1, static_cast<Index>(share)));
}

template <class A>
Result<double> result_on(Index threads, const Example& example, Decision decision) {
    Processor processor{{.threads = threads}};
    return run_forward(make_model<A>(processor, example.setting), example.sequences, decision);
}

bool same_bits(const Result<double>& a, const Result<double>& b) {
    return a.depths == b.depths && a.logits == b.logits;
}

}  // namespace

TEST_CASE_TEMPLATE("looking ahead, a step keeps as many tokens of a sequence as scheduled", A,
                   mor::MoRExpert<mor::MiddleCycle>, RandomRouted, ExpertAuxiliary,
                   IndependentSteps) {
    check_property<A>("kept = scheduled", [] {
        const Example example = any_example<A>(any_lengths(0, 5, 40));
        const auto active = active_rows<A>(example, Decision::look_ahead);
        RC_ASSERT(std::ssize(active) == example.setting.num_steps);
        for (std::size_t step = 0; step < active.size(); ++step) {
            for (std::size_t s = 0; s < example.sequences.lengths.size(); ++s) {
                const Index first = example.sequences.offset(s);
                const Index length = example.sequences.lengths[s];
                const auto kept =
                    std::count_if(active[step].begin(), active[step].end(),
                                  [&](Index row) { return first <= row && row < first + length; });
                RC_ASSERT(kept == scheduled_count(example.setting, step, length));
            }
        }
    });
}

TEST_CASE_TEMPLATE("only tokens that took a step can take the next", A,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::MiddleCycle>, RandomRouted,
                   ExpertAuxiliary, TokenLossFree, CyclePonder, MiddleExitGate) {
    check_property<A>("active rows are nested", [] {
        const Example example = any_example<A>(any_lengths(0, 5, 40));
        const auto active = active_rows<A>(example, any_decision());
        std::vector<Index> before(example.sequences.tokens.size());
        std::iota(before.begin(), before.end(), Index{0});
        for (const std::vector<Index>& rows : active) {
            RC_ASSERT(std::adjacent_find(rows.begin(), rows.end(), std::greater_equal<>{}) ==
                      rows.end());
            RC_ASSERT(std::includes(before.begin(), before.end(), rows.begin(), rows.end()));
            before = rows;
        }
    });
}

TEST_CASE_TEMPLATE("a pass repeats bit for bit, and other threads change only the rounding", A,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::MiddleCycle>, RandomRouted,
                   ExpertAuxiliary, TokenLossFree, MiddleExitGate, IndependentSteps) {
    check_property<A>("the same seed, the same bits", [] {
        const Example example = any_large_example<A>();
        const Decision decision = any_decision();
        const auto one = result_on<A>(1, example, decision);
        const auto two = result_on<A>(2, example, decision);
        RC_ASSERT(same_bits(one, result_on<A>(1, example, decision)));
        RC_ASSERT(same_bits(two, result_on<A>(2, example, decision)));
        RC_ASSERT(agree(one, two));
    });
}

TEST_CASE_TEMPLATE("where rows fill whole vectors, other threads change not one bit", A,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::MiddleCycle>, RandomRouted,
                   ExpertAuxiliary, TokenLossFree, MiddleExitGate, IndependentSteps) {
    check_property<A>("one thread, two threads, the same bits", [] {
        Example example = any_large_example<A>();
        mor::ModelConfig& config = example.setting.config;
        config.hidden_size = 16 * *uniform(2, 4).as("hidden size / 16");
        config.intermediate_size = 16 * *uniform(1, 5).as("intermediate size / 16");
        config.head_dim = 16;
        const Decision decision = any_decision();
        RC_ASSERT(
            same_bits(result_on<A>(1, example, decision), result_on<A>(2, example, decision)));
    });
}
