// SPDX-License-Identifier: Apache-2.0
//
// The code of docs/concepts, between its marks, and tests that it works.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/testing/gradient_check.hpp>

#include <doctest/doctest.h>
#include <unit/model/training_pass.hpp>

#include <algorithm>
#include <string>
#include <string_view>
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

// snippet-begin router
/// Every second candidate goes on.
class EverySecond {
public:
    static constexpr std::string_view name = "acme.every_second";
    using Merge = mor::Replace;
    struct Options {
        mor::Index remainder = 0;  // position modulo 2 of the tokens that go on, 0 or 1
    };
    explicit EverySecond(const Options& options) : options_{options} {}

    template <mor::HostBackend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        mor::Index count = 0;
        for (mor::Index i = 0; i < step.num_candidates(); ++i) {
            if (step.rows.positions[i] % 2 == options_.remainder) {
                step.kept[count++] = i;
            }
        }
        return count;
    }

private:
    Options options_;
};
static_assert(mor::RouterPolicy<EverySecond, mor::Cpu<float>>);
// snippet-end

// snippet-begin learned_router
/// A token goes on while its score, the same in all steps, is positive.
class PositiveScore {
public:
    static constexpr std::string_view name = "acme.positive_score";
    using Merge = mor::GateEachStep;
    struct Options {
        double alpha = 1.0;  // gate = alpha * sigmoid(score)
    };
    explicit PositiveScore(const Options& options) : options_{options} {}

    template <mor::Backend B>
    struct Weights {
        Weights(const mor::ModelConfig& config, mor::Index /*num_steps*/,
                const Options& /*options*/)
            : score{"model.router.weight", config.hidden_size, 1} {}
        void initialize(mor::Random& random, double deviation) {
            score.initialize(random, deviation);
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            score.visit_parameters(visitor);
        }
        mor::Linear<B> score;
    };

    template <mor::Backend B>
    struct Record {
        std::vector<mor::MatrixView<B>> scores;  // [steps], each [candidates, 1], as are gates
        std::vector<mor::MatrixView<B>> gates;
    };

    template <mor::Backend B>
    mor::Index select(mor::Context<B>& context, const Weights<B>& weights,
                      const mor::StepView<B>& step, Record<B>& record) const {
        if (step.step == 0) {
            record = {};
        }
        const auto scores = record.scores.emplace_back(context.matrix(step.num_candidates(), 1));
        const auto gates = record.gates.emplace_back(context.matrix(step.num_candidates(), 1));
        weights.score.forward(context, step.hidden, scores);
        mor::ops::gate<B>(context, mor::GateFunction::sigmoid, scores, options_.alpha, gates);
        const mor::Index count =
            mor::ops::select_greater<B>(context, scores.flat(), 0.0, step.kept);
        mor::ops::gather_rows<B>(context, gates, step.kept.slice(0, count),
                                 {step.weight.data(), {count, 1}});
        return count;
    }

    template <mor::Backend B>
    void backward(mor::Context<B>& context, Weights<B>& weights, const mor::StepView<B>& step,
                  mor::ConstIndexView<B> kept, Record<B>& record,
                  const mor::StepGradient<B>& gradient) const {
        const auto gates = record.gates[static_cast<std::size_t>(step.step)];
        const auto dgates = context.zero_matrix(gates.rows(), 1);
        const auto dscores = context.zero_matrix(gates.rows(), 1);
        mor::ops::scatter_rows<B>(context, {gradient.weight.data(), {kept.size(), 1}}, kept,
                                  dgates);
        mor::ops::gate_backward<B>(context, mor::GateFunction::sigmoid, gates, options_.alpha,
                                   dgates, dscores);
        weights.score.backward(context, step.hidden, dscores, gradient.hidden,
                               mor::Write::accumulate);
    }

private:
    Options options_;
};
static_assert(mor::LearnedRouter<PositiveScore, mor::Cpu<float>>);
static_assert(mor::RouterPolicy<PositiveScore, mor::Cpu<float>>);
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
        const auto kept = context.matrix(x.rows(), x.columns());
        mor::ops::copy<B>(context, x, kept);
        const auto normed = norm_.forward(context, kept, saved.norm);
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

// snippet-begin merge
/// h = (h + f(h)) / 2 for the rows that took the step.
struct Halfway : mor::Replace {
    template <mor::Backend B>
    static void step(mor::Context<B>& context, mor::MatrixView<B> h,
                     const mor::MergeState<B>& /*state*/, const mor::MergeStep<B>& step,
                     mor::ConstMatrixView<B> y) {
        const auto mean = context.matrix(y.rows(), y.columns());
        mor::ops::gather_rows<B>(context, h, step.active, mean);
        mor::ops::scale<B>(context, y, 1.0, mean, mor::Write::accumulate);
        mor::ops::scale<B>(context, mean, 0.5, mean);
        mor::ops::scatter_rows<B>(context, mean, step.active, h);
    }
    template <mor::Backend B>
    static void result_gradient(mor::Context<B>& context, mor::ConstMatrixView<B> dh,
                                const mor::MergeState<B>& /*state*/, const mor::MergeStep<B>& step,
                                mor::MatrixView<B> dy) {
        mor::ops::gather_rows<B>(context, dh, step.active, dy);
        mor::ops::scale<B>(context, dy, 0.5, dy);
    }
    template <mor::Backend B>
    static void input_gradient(mor::Context<B>& context, mor::ConstMatrixView<B> dx,
                               const mor::MergeStep<B>& step, mor::MatrixView<B> dh) {
        const auto old = context.matrix(dx.rows(), dx.columns());
        mor::ops::gather_rows<B>(context, dh, step.active, old);
        mor::ops::scale<B>(context, old, 0.5, old);
        mor::ops::scale<B>(context, dx, 1.0, old, mor::Write::accumulate);
        mor::ops::scatter_rows<B>(context, old, step.active, dh);
    }
};
static_assert(mor::MergePolicy<Halfway, mor::Cpu<float>>);
// snippet-end

// snippet-begin observer
/// How many rows passed through all layers together.
struct RowCounter {
    mor::Index rows = 0;
    void operator()(const mor::LayerSeen<mor::Cpu<double>>& seen) { rows += seen.rows.size(); }
};
static_assert(mor::ObserverPolicy<RowCounter, mor::Cpu<double>>);
// snippet-end

// snippet-begin architecture
struct Mine : mor::DefaultArchitecture {
    using Sharing = Halves;
    using Router = PositiveScore;
};
static_assert(mor::Architecture<Mine, mor::Cpu<float>>);
// snippet-end

namespace {

using namespace mor::test;
using mor::Index;

struct WithEverySecond : mor::DefaultArchitecture {
    using Router = EverySecond;
};
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
struct HalfwayOfEverySecond : EverySecond {
    using EverySecond::EverySecond;
    using Merge = Halfway;
};
struct WithHalfway : mor::DefaultArchitecture {
    using Router = HalfwayOfEverySecond;
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

TEST_CASE_TEMPLATE("the minimal policies make models with right gradients", A, Mine,
                   WithEverySecond, WithFlat, WithOwnKeys, WithMlpBlock, WithOwnProjections,
                   WithHalfOfInput, WithHalfway) {
    using B = mor::Cpu<double>;
    B cpu{{.threads = 1}};
    mor::ModelConfig config = small_config<A>();
    config.num_layers = std::is_same_v<A, Mine> ? 4 : 5;
    mor::Model<A, B> model{cpu, config, {}, 3};
    const Sequences sequences = random_sequences({9, 5}, config.vocab_size, 5);
    const auto targets = random_targets(sequences, config.vocab_size);
    mor::Context<B> context{cpu};
    mor::Trace<A, B> trace;
    training_pass(model, context, trace, sequences, targets);
    const std::vector<Index> depths = mor::token_depths(trace);
    std::vector<Index> active(4, 0);
    for (const Index depth : depths) {
        ++active[static_cast<std::size_t>(depth)];
    }
    CHECK(*std::max_element(active.begin(), active.end()) < 14);  // not all of one depth

    // The slope along the gradient is the square of its length.
    double square = 0;
    std::vector<std::vector<double>> values;
    std::vector<std::vector<double>> gradients;
    model.visit_parameters([&](mor::Parameter<B>& parameter) {
        values.push_back(mor::to_host(parameter.value()));
        gradients.push_back(mor::to_host(parameter.gradient()));
        for (const double g : gradients.back()) {
            square += g * g;
        }
    });
    const auto loss = [&](const std::vector<double>& distance) {
        std::size_t p = 0;
        model.visit_parameters([&](mor::Parameter<B>& parameter) {
            std::vector<double> moved = values[p];
            for (std::size_t i = 0; i < moved.size(); ++i) {
                moved[i] += distance[0] * gradients[p][i];
            }
            mor::from_host(parameter.value(), moved);
            ++p;
        });
        return training_pass(model, context, trace, sequences, targets);
    };
    const auto found = mor::testing::check_gradient(loss, {0.0}, {square}, {.step = 1e-5});
    CHECK_MESSAGE(found.passes(), found.message());
}
