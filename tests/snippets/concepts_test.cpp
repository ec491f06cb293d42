// SPDX-License-Identifier: Apache-2.0
//
// The code of docs/concepts, between its marks, and tests that it works. That of routers and their
// parts is in routing_concepts_test.cpp.
#include <mor/serve/engine.hpp>

#include <snippets/small_model_check.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// snippet-begin backend
struct Plain {
    using Element = float;
    using Space = mor::HostSpace;
    static constexpr std::string_view name = "acme.plain";
};
static_assert(mor::Backend<Plain>);

template <>
struct mor::Kernel<mor::op::Embedding, Plain> {
    static void run(mor::Context<Plain>& /*context*/, mor::ConstTokenView<Plain> tokens,
                    mor::ConstMatrixView<Plain> table, mor::MatrixView<Plain> out) {
        for (mor::Index i = 0; i < tokens.size(); ++i) {
            std::copy_n(table.row(tokens[i]).data(), table.columns(), out.row(i).data());
        }
    }
};
static_assert(mor::Implements<Plain, mor::op::Embedding>);
// snippet-end

// snippet-begin sharing
/// The two halves of the stack use the same weights: 0 1 2 / 0 1 2.
class Halves {
public:
    static constexpr std::string_view name = "acme.halves";
    static constexpr bool has_steps = true;
    struct Options {};
    explicit Halves(const Options& /*options*/) {}

    [[nodiscard]] mor::Layout layout(mor::Index num_layers) const {
        mor::check<mor::ConfigError>(num_layers > 0 && num_layers % 2 == 0,
                                     "acme::Halves: num_layers is ", num_layers,
                                     ", expected an even number");
        mor::Layout layout{.num_steps = 2, .layers_per_step = num_layers / 2};
        for (mor::Index layer = 0; layer < num_layers; ++layer) {
            layout.physical.push_back(layer % (num_layers / 2));
        }
        return layout;
    }
};
static_assert(mor::SharingPolicy<Halves>);
// snippet-end

// snippet-begin schedule
/// All tokens in the first step, the same fraction in all others.
class Flat {
public:
    static constexpr std::string_view name = "acme.flat";
    struct Options {
        double fraction = 0.5;  // of a sequence's tokens, in (0, 1]
    };
    explicit Flat(const Options& options) : options_{options} {}

    [[nodiscard]] double capacity(mor::Index step, mor::Index /*num_steps*/,
                                  mor::Index /*training_step*/) const {
        return step == 0 ? 1.0 : options_.fraction;
    }

private:
    Options options_;
};
static_assert(mor::SchedulePolicy<Flat>);
// snippet-end

// snippet-begin cache
/// Every layer stores and reads its own keys and values.
class OwnKeys {
public:
    static constexpr std::string_view name = "acme.own_keys";
    struct Options {};
    explicit OwnKeys(const Options& /*options*/) {}

    [[nodiscard]] mor::Index key_layer(const mor::Layout& /*layout*/, mor::Index layer) const {
        return layer;
    }
};
static_assert(mor::CachePolicy<OwnKeys>);
// snippet-end

// snippet-begin block
/// A block without attention: x = x + swiglu(norm(x)).
template <mor::Backend B>
class MlpBlock {
public:
    static constexpr std::string_view name = "acme.mlp";
    struct Saved {
        typename mor::RmsNorm<B>::Saved norm;
        typename mor::SwiGlu<B>::Saved mlp;
    };

    MlpBlock(const mor::LayerUses& uses, const mor::ModelConfig& config)
        : norm_{uses.prefix() + "norm.weight", config.hidden_size, config.rms_norm_epsilon},
          mlp_{uses, config} {}

    template <mor::KeyValueSource<B> Source>
    void forward(mor::Context<B>& context, mor::MatrixView<B> x, const mor::LayerInput<B>& input,
                 Source& /*source*/, Saved& saved) const {
        const auto normed = norm_.forward_copying(context, x, saved.norm);
        mlp_.forward(context, input.use, normed, x, saved.mlp);
    }

    template <mor::KeyValueGradientSource<B> Source>
    void backward(mor::Context<B>& context, const Saved& saved, const mor::LayerInput<B>& input,
                  Source& /*source*/, mor::MatrixView<B> dx) {
        const auto dnormed = context.matrix(dx.rows(), dx.columns());
        mlp_.backward(context, input.use, saved.mlp, dx, dnormed);
        norm_.backward(context, saved.norm, dnormed, dx);
    }

    void initialize(mor::Random& random, double deviation) { mlp_.initialize(random, deviation); }

    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        norm_.visit_parameters(visitor);
        mlp_.visit_parameters(visitor);
    }

private:
    mor::RmsNorm<B> norm_;
    mor::SwiGlu<B> mlp_;
};
static_assert(mor::BlockLayer<MlpBlock<mor::Cpu<float>>, mor::Cpu<float>>);
// snippet-end

// snippet-begin relaxation
/// Norms and feed-forward widths are shared, but every use has projections of its own.
struct OwnProjections : mor::NoRelaxation {
    static constexpr std::string_view name = "acme.own_projections";
    template <mor::Backend B>
    using Projection = mor::Unshared<mor::Linear<B>>;
};
static_assert(mor::RelaxationPolicy<OwnProjections, mor::Cpu<float>>);
// snippet-end

// snippet-begin injection
/// Adds half of the recursion's input before every step.
struct HalfOfInput : mor::NoInjection {
    static constexpr std::string_view name = "acme.half_of_input";
    static constexpr bool is_empty = false;
    template <mor::Backend B>
    struct Weights : mor::NoInjection::Weights<B> {
        using Base = mor::NoInjection::Weights<B>;
        using Base::Base;
        using typename Base::Saved;

        void forward(mor::Context<B>& context, mor::Index /*step*/, mor::ConstMatrixView<B> entered,
                     mor::MatrixView<B> x, Saved& /*saved*/) const {
            mor::ops::scale<B>(context, entered, 0.5, x, mor::Write::accumulate);
        }
        void backward(mor::Context<B>& context, mor::Index /*step*/,
                      mor::ConstMatrixView<B> /*entered*/, const Saved& /*saved*/,
                      mor::MatrixView<B> dentered, mor::MatrixView<B> dx) {
            mor::ops::scale<B>(context, dx, 0.5, dentered, mor::Write::accumulate);
        }
    };
};
static_assert(mor::InjectionPolicy<HalfOfInput, mor::Cpu<float>>);
// snippet-end

// snippet-begin observer
/// How many rows passed through all layers together.
struct RowCounter {
    mor::Index rows = 0;
    void operator()(const mor::LayerSeen<mor::Cpu<double>>& seen) { rows += seen.rows.size(); }
};
static_assert(mor::ObserverPolicy<RowCounter, mor::Cpu<double>>);
// snippet-end

// snippet-begin scheduling
/// The shared block runs when a call of it is full, or when nothing else is left to do.
struct FullBlocks {
    static constexpr std::string_view name = "acme.full_blocks";
    static constexpr bool mixes_depths = true;

    static bool admits(const mor::EngineLoad& load) { return load.running < 4 * load.max_batch; }
    static mor::NextCall next(const mor::EngineLoad& load) {
        const bool is_full = load.stepping >= load.max_batch;
        const bool is_all = load.entering + load.leaving == 0;
        return load.stepping > 0 && (is_full || is_all) ? mor::NextCall::shared_block
                                                        : mor::NextCall::boundary;
    }
};
static_assert(mor::SchedulingPolicy<FullBlocks>);
// snippet-end

// snippet-begin architecture
struct Mine : mor::DefaultArchitecture {
    using Sharing = Halves;
    using Router = mor::TokenChoice;
};
static_assert(mor::Architecture<Mine, mor::Cpu<float>>);
// snippet-end

namespace {

using namespace mor::test;
using mor::Index;

struct WithFlat : mor::DefaultArchitecture {
    using Schedule = Flat;
};
struct WithOwnKeys : mor::DefaultArchitecture {
    using Cache = OwnKeys;
};
struct WithOwnProjections : mor::DefaultArchitecture {
    using Relaxation = OwnProjections;
};
struct WithHalfOfInput : mor::DefaultArchitecture {
    using Injection = HalfOfInput;
};
struct WithMlpBlock : mor::DefaultArchitecture {
    template <mor::Backend B, class Relaxation>
    using Block = MlpBlock<B>;
};

}  // namespace

TEST_CASE("the minimal backend has the kernel that it declares, and no other") {
    static_assert(!mor::Implements<Plain, mor::op::Attention>);
    Plain plain;
    mor::Context<Plain> context{plain};
    const auto table = context.matrix(3, 2);
    mor::from_host(table, {0, 1, 2, 3, 4, 5});
    const auto tokens = context.arena().make<mor::TokenId, 1>({2});
    mor::from_host(tokens, {2, 0});
    const auto out = context.matrix(2, 2);
    mor::ops::embedding<Plain>(context, tokens, table, out);
    CHECK(mor::to_host(out) == std::vector<float>{4, 5, 0, 1});
}

TEST_CASE_TEMPLATE("the minimal policies make models with right gradients", A, Mine, WithFlat,
                   WithOwnKeys, WithMlpBlock, WithOwnProjections, WithHalfOfInput) {
    check_small_model<A>(std::is_same_v<A, Mine> ? 4 : 5);
}

TEST_CASE("an engine with the minimal scheduling gives the usual answers in fuller calls") {
    using A = mor::MoRToken<>;
    using B = mor::Cpu<float>;
    B cpu{{.threads = 1}};
    mor::ModelConfig config = small_config<A>();
    config.num_layers = 5;
    const mor::Model<A, B> model{cpu, config, {}, 3};
    struct Outcome {
        std::vector<mor::ServedToken> tokens = {};
        Index calls = 0;  // of the shared block
        Index full = 0;
    };
    const auto serve = [&]<class Scheduling>(Scheduling) {
        Outcome outcome;
        mor::Engine<A, B, Scheduling> engine{
            model, {.max_batch = 4, .on_call = [&](const mor::EngineCall& call) {
                        if (call.part == mor::EnginePart::shared_block) {
                            ++outcome.calls;
                            outcome.full += call.rows == 4 ? 1 : 0;
                        }
                    }}};
        std::vector<mor::RequestHandle> handles;
        for (mor::TokenId token = 0; token < 12; ++token) {
            handles.push_back(engine.submit(std::vector<mor::TokenId>{token, 3},
                                            {.max_new_tokens = 6, .sampling = {.temperature = 0}}));
        }
        engine.run();
        for (mor::RequestHandle& handle : handles) {
            while (const auto token = handle.try_next()) {
                outcome.tokens.push_back(*token);
            }
        }
        return outcome;
    };
    const Outcome mine = serve(FullBlocks{});
    const Outcome other = serve(mor::SequenceWise{});
    CHECK(mine.tokens.size() == 12 * 6);
    CHECK(mine.tokens == other.tokens);
    CHECK(mine.calls < other.calls);
    CHECK(mine.full * other.calls > other.full * mine.calls);
}
