// SPDX-License-Identifier: Apache-2.0
//
// Tokens that leave save what they would have cost: operations, memory of the cache, and time
// lost in allocations.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/model/backward.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <numeric>
#include <vector>

namespace {

using namespace mor::test;
using mor::Decision;
using mor::Index;

using Cpu = mor::Cpu<float>;

template <class A>
mor::Model<A, Cpu> make_model(Cpu& cpu) {
    return mor::Model<A, Cpu>{cpu, small_config<A>(), small_options<A>(), 3};
}

/// Tokens at positions p with p % num_steps >= step take a step: exactly (Nr - r) / Nr of them,
/// decided causally.
class Comb {
public:
    static constexpr std::string_view name = "test.comb";
    using Merge = mor::Replace;
    struct Options {};
    explicit Comb(const Options& /*options*/) {}

    template <mor::Backend B>
    Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        Index count = 0;
        for (Index i = 0; i < step.num_candidates(); ++i) {
            if (step.rows.positions[i] % step.num_steps >= step.step) {
                step.kept[count++] = i;
            }
        }
        return count;
    }
};

struct CombCycle : mor::DefaultArchitecture {
    using Sharing = mor::Cycle;
    using Router = Comb;
};
struct CombMiddleCycle : mor::DefaultArchitecture {
    using Router = Comb;
};

/// The operations of one layer on sequences of which `active` tokens each take part: products of
/// the four projections and the MLP, and causal attention among the active tokens.
double layer_flops(const mor::ModelConfig& config, const std::vector<Index>& active) {
    const auto hidden = static_cast<double>(config.hidden_size);
    const auto queries = static_cast<double>(config.num_heads * config.head_dim);
    const auto keys = static_cast<double>(config.num_kv_heads * config.head_dim);
    const auto mlp = static_cast<double>(config.intermediate_size);
    const double weights = hidden * (2 * queries + 2 * keys + 3 * mlp);
    double flops = 0;
    for (const Index count : active) {
        const auto n = static_cast<double>(count);
        flops += 2 * n * weights + 4 * queries * n * (n + 1) / 2;
    }
    return flops;
}

/// How many tokens of each sequence have at least that depth.
std::vector<Index> active_tokens(const Sequences& sequences, const std::vector<Index>& depths,
                                 Index depth) {
    std::vector<Index> active;
    for (std::size_t s = 0; s < sequences.lengths.size(); ++s) {
        const auto first = depths.begin() + sequences.offset(s);
        active.push_back(std::count_if(first, first + sequences.lengths[s],
                                       [=](Index d) { return d >= depth; }));
    }
    return active;
}

/// The operations of a pass in which the tokens had these depths.
template <class A>
double pass_flops(const mor::Model<A, Cpu>& model, const Sequences& sequences,
                  const std::vector<Index>& depths) {
    const mor::ModelConfig& config = model.config();
    const mor::Layout& layout = model.layout();
    const auto rows = static_cast<double>(depths.size());
    const auto hidden = static_cast<double>(config.hidden_size);
    double flops = 2 * rows * hidden * static_cast<double>(config.vocab_size);
    for (Index layer = 0; layer < layout.num_unrolled(); ++layer) {
        // Without routing every depth is 0, and every layer sees all.
        const Index step = mor::keeps_every_token<typename A::Router> ? -1 : layout.step_of(layer);
        flops += layer_flops(config, active_tokens(sequences, depths, step + 1 > 0 ? step + 1 : 0));
    }
    if constexpr (requires { model.options().router.causality; }) {
        for (Index step = 0; step < layout.num_steps; ++step) {
            const auto candidates = active_tokens(sequences, depths, step);
            flops += 2 * hidden *
                     static_cast<double>(
                         std::accumulate(candidates.begin(), candidates.end(), Index{0}));
        }
    }
    if constexpr (requires { model.options().router.balancing; }) {
        flops += 2 * rows * hidden * static_cast<double>(layout.num_steps);
    }
    return flops;
}

/// Bytes of the keys and values of tokens with these depths.
template <class A>
Index stored_bytes(const mor::Model<A, Cpu>& model, const std::vector<Index>& depths) {
    const mor::Layout& layout = model.layout();
    const Index entry = 2 * model.config().num_kv_heads * model.config().head_dim *
                        static_cast<Index>(sizeof(float));
    const Index rows = std::ssize(depths);
    if (mor::keeps_every_token<typename A::Router>) {
        return entry * rows * layout.num_unrolled();
    }
    const Index outside = layout.num_unrolled() - layout.num_steps * layout.layers_per_step;
    const Index depth = std::accumulate(depths.begin(), depths.end(), Index{0});
    return entry * (rows * outside + depth * layout.layers_per_step);
}

}  // namespace

TEST_CASE_TEMPLATE("a pass executes exactly the operations of its active tokens", A,
                   MOR_ALL_ARCHITECTURES, CombCycle, CombMiddleCycle) {
    Cpu cpu{{.threads = 2}};
    const auto model = make_model<A>(cpu);
    const Sequences sequences = random_sequences({24, 17, 1}, model.config().vocab_size, 5);
    for (const Decision decision : {Decision::look_ahead, Decision::causal}) {
        mor::Context<Cpu> context{cpu};
        mor::Trace<A, Cpu> trace;
        model.forward(context, sequences.batch(), {.decision = decision}, trace);
        const auto depths = mor::token_depths(trace);
        CHECK(context.flops() == pass_flops(model, sequences, depths));
        const std::vector<Index> deepest(depths.size(), model.layout().num_steps);
        if (mor::keeps_every_token<typename A::Router>) {
            CHECK(context.flops() == pass_flops(model, sequences, deepest));
        } else {
            CHECK(context.flops() < pass_flops(model, sequences, deepest));
        }
    }
}

TEST_CASE("expert choice executes what its capacities allow, known before the pass") {
    Cpu cpu{{.threads = 1}};
    using A = mor::MoRExpert<mor::MiddleCycle>;
    const auto model = make_model<A>(cpu);
    const Sequences sequences = random_sequences({24, 17}, model.config().vocab_size, 5);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.forward(context, sequences.batch(), {}, trace);
    const mor::ModelConfig& config = model.config();
    const double layers = 2 * layer_flops(config, {24, 17}) +
                          2 * (layer_flops(config, {24, 17}) + layer_flops(config, {16, 11}) +
                               layer_flops(config, {8, 5}));
    const double routers = 2.0 * 16 * (41 + 41 + 27);
    const double head = 2.0 * 41 * 16 * 29;
    CHECK(context.flops() == layers + routers + head);
}

TEST_CASE_TEMPLATE("the cache stores exactly the active rows", A, MOR_ALL_ARCHITECTURES, CombCycle,
                   CombMiddleCycle) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu);
    const Sequences sequences = random_sequences({24, 17, 5}, model.config().vocab_size, 5);
    auto cache = model.make_cache(3);
    CHECK(cache.bytes_in_use() == 0);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.extend(context, sequences.batch(), cache, trace);
    std::vector<Index> depths = mor::token_depths(trace);
    CHECK(cache.bytes_in_use() == stored_bytes(model, depths));
    CHECK(cache.bytes_in_use() <= cache.bytes_reserved());

    // A few more tokens, one a call.
    const Sequences more = random_sequences({1, 0, 1}, model.config().vocab_size, 6);
    for (Index call = 0; call < 4; ++call) {
        model.extend(context, more.batch(), cache, trace);
        const std::vector<Index> added = mor::token_depths(trace);
        depths.insert(depths.end(), added.begin(), added.end());
        CHECK(cache.bytes_in_use() == stored_bytes(model, depths));
    }
    for (Index sequence = 0; sequence < 3; ++sequence) {
        cache.clear(sequence);
    }
    CHECK(cache.bytes_in_use() == 0);
}

TEST_CASE("with evenly shrinking capacities the recursion stores (Nr + 1) / (2 Nr) of the whole") {
    Cpu cpu{{.threads = 1}};
    for (const Index recursions : {2, 3, 4}) {
        mor::ModelConfig config = small_config<CombCycle>();
        config.num_layers = 2 * recursions;
        const Sequences sequences =
            random_sequences({4 * recursions, 2 * recursions}, config.vocab_size, 5);
        const Index rows = 6 * recursions;
        const Index whole = rows * config.num_layers * 2 * config.num_kv_heads * config.head_dim *
                            static_cast<Index>(sizeof(float));

        // In the cache, with a router that keeps these fractions causally.
        const mor::Model<CombCycle, Cpu> model{
            cpu, config, {.sharing = {.num_recursions = recursions}}, 3};
        auto cache = model.make_cache(2);
        mor::Context<Cpu> context{cpu};
        mor::Trace<CombCycle, Cpu> trace;
        model.extend(context, sequences.batch(), cache, trace);
        CHECK(cache.bytes_in_use() * 2 * recursions == whole * (recursions + 1));

        // In the trace of a pass, with the top k of expert choice.
        using Expert = mor::MoRExpert<mor::Cycle>;
        const mor::Model<Expert, Cpu> expert{
            cpu, config, {.sharing = {.num_recursions = recursions}}, 3};
        mor::Trace<Expert, Cpu> expert_trace;
        expert.forward(context, sequences.batch(), {}, expert_trace);
        Index stored = 0;
        for (const auto& layer : expert_trace.layers) {
            stored += static_cast<Index>(sizeof(float)) * (layer.keys.size() + layer.values.size());
        }
        CHECK(stored * 2 * recursions == whole * (recursions + 1));
    }
}

TEST_CASE_TEMPLATE("after the first pass nothing is allocated any more", A, MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    auto model = make_model<A>(cpu);
    // Large enough for several pieces of memory in the first pass.
    const Sequences sequences = random_sequences({64, 64, 64, 64, 64, 64, 64, 1}, 29, 5);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    const auto train = [&] {
        model.forward(context, sequences.batch(), {}, trace);
        mor::backward(model, context, trace, trace.logits);
    };
    train();
    CHECK(context.arena().allocations() > 1);
    train();  // begins by making one piece of the many
    const Index allocations = context.arena().allocations();
    const std::size_t bytes = context.arena().capacity_bytes();
    for (Index pass = 0; pass < 3; ++pass) {
        train();
    }
    CHECK(context.arena().allocations() == allocations);
    CHECK(context.arena().capacity_bytes() == bytes);
}

TEST_CASE_TEMPLATE("a pass without logits ends before the head", A, mor::Vanilla,
                   mor::MoRExpert<mor::MiddleCycle>) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu);
    const Sequences sequences = random_sequences({20, 10}, 29, 5);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    model.forward(context, sequences.batch(), {}, trace);
    const auto normed = to_host(mor::ConstMatrixView<Cpu>{trace.normed});
    CHECK(trace.logits.rows() == 30);
    const double with_head = context.flops();
    model.forward(context, sequences.batch(), {.computes_logits = false}, trace);
    CHECK(to_host(mor::ConstMatrixView<Cpu>{trace.normed}) == normed);
    CHECK(trace.logits.empty());
    CHECK(2 * with_head - context.flops() == 2 * 30 * 16 * 29);
}

TEST_CASE_TEMPLATE("the arena does not grow from token to token", A, mor::Recursive<mor::Cycle>,
                   mor::MoRExpert<mor::MiddleCycle>, mor::MoRToken<mor::Cycle>) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu);
    auto cache = model.make_cache(2);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    const Sequences prompt = random_sequences({20, 10}, 29, 5);
    model.extend(context, prompt.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    const Sequences next = random_sequences({1, 1}, 29, 6);
    model.extend(context, next.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    const Index allocations = context.arena().allocations();
    for (Index token = 0; token < 40; ++token) {
        model.extend(context, next.batch(), cache, trace, {.logits = mor::Logits::last_rows});
    }
    CHECK(context.arena().allocations() == allocations);
}

TEST_CASE_TEMPLATE("prefill leaves out what only serves rows that nobody looks at", A,
                   mor::Recursive<mor::Cycle, mor::RecursiveSharingCache>,
                   mor::MoRExpert<mor::Cycle, mor::RecursiveSharingCache>) {
    Cpu cpu{{.threads = 1}};
    const auto model = make_model<A>(cpu);
    const Sequences prompt = random_sequences({60}, 29, 5);
    const auto blocks = [&](mor::Logits which) {
        mor::Context<Cpu> context{cpu};
        mor::Trace<A, Cpu> trace;
        auto cache = model.make_cache(1);
        Index rows = 0;
        model.extend(context, prompt.batch(), cache, trace, {.logits = which},
                     [&rows](const mor::LayerSeen<Cpu>& seen) { rows += seen.rows.size(); });
        return rows;
    };
    CHECK(blocks(mor::Logits::last_rows) <= 60 * 2 + 4);  // both layers once, and the last row
    CHECK(blocks(mor::Logits::all_rows) > 60 * 2 + 4);
}
