// SPDX-License-Identifier: Apache-2.0
//
// The code of docs/concepts that decides which tokens take a step, between its marks, and tests
// that it works.
#include <snippets/small_model_check.hpp>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

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
            if (step.must_keep_all() || step.rows.positions[i] % 2 == options_.remainder) {
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
        const double bound = step.must_keep_all() ? -std::numeric_limits<double>::infinity() : 0.0;
        const mor::Index count =
            mor::ops::select_greater<B>(context, scores.flat(), bound, step.kept);
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

// snippet-begin network
/// logits = outer * inner * x: a linear map of low rank.
struct LowRankNetwork {
    static constexpr std::string_view suffix = ".acme_low_rank";
    struct Options {
        mor::Index rank = 4;
    };

    template <mor::Backend B>
    class Weights {
    public:
        struct Saved {
            mor::MatrixView<B> inner;  // [rows, rank]
        };

        Weights(const std::string& prefix, mor::Index inputs, mor::Index outputs,
                const Options& options)
            : inner_{prefix + "inner.weight", inputs, options.rank},
              outer_{prefix + "outer.weight", options.rank, outputs} {}

        void forward(mor::Context<B>& context, mor::ConstMatrixView<B> x, mor::MatrixView<B> logits,
                     Saved& saved) const {
            saved.inner = context.matrix(x.rows(), inner_.outputs());
            inner_.forward(context, x, saved.inner);
            outer_.forward(context, saved.inner, logits);
        }
        void backward(mor::Context<B>& context, mor::ConstMatrixView<B> x, const Saved& saved,
                      mor::ConstMatrixView<B> dlogits, mor::MatrixView<B> dx) {
            const auto dinner = context.matrix(x.rows(), inner_.outputs());
            outer_.backward(context, saved.inner, dlogits, dinner, mor::Write::overwrite);
            inner_.backward_weight(context, x, dinner);
            if (dx.data() != nullptr) {
                inner_.backward_input(context, dinner, dx, mor::Write::accumulate);
            }
        }

        void initialize(mor::Random& random, double deviation) {
            inner_.initialize(random, deviation);
            outer_.initialize(random, deviation);
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            inner_.visit_parameters(visitor);
            outer_.visit_parameters(visitor);
        }

    private:
        mor::Linear<B> inner_;
        mor::Linear<B> outer_;
    };
};
static_assert(mor::RouterNetwork<LowRankNetwork, mor::Cpu<float>>);
// snippet-end

// snippet-begin causality
/// A causal pass keeps the tokens whose score is above a number. Nothing is trained for that.
class FixedBound {
public:
    static constexpr std::string_view suffix = ".acme_fixed_bound";
    static constexpr bool predicts_apart = false;  // its logits are the router's scores
    struct Options {
        double bound = 0.0;
    };
    template <mor::Backend B>
    struct Weights {
        Weights(const std::string& /*prefix*/, mor::Index /*inputs*/, const Options& /*options*/) {}
        void initialize(mor::Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
    };
    template <mor::Backend B>
    struct Record {};

    explicit FixedBound(const Options& options) : options_{options} {}

    template <mor::Backend B>
    void predict(mor::Context<B>& /*context*/, const Weights<B>& /*weights*/,
                 mor::ConstMatrixView<B> /*hidden*/, Record<B>& /*record*/) const {}

    template <mor::Backend B>
    [[nodiscard]] mor::ConstVectorView<B> logits(mor::ConstMatrixView<B> scores,
                                                 const Record<B>& /*record*/) const {
        return scores.flat();
    }
    [[nodiscard]] double bound() const { return options_.bound; }

    template <mor::Backend B>
    void backward(mor::Context<B>& /*context*/, Weights<B>& /*weights*/,
                  mor::ConstMatrixView<B> /*hidden*/, mor::ConstMatrixView<B> /*scores*/,
                  mor::ConstIndexView<B> /*kept*/, const Record<B>& /*record*/,
                  const mor::StepGradient<B>& /*gradient*/, mor::MatrixView<B> /*dscores*/) const {}

private:
    Options options_;
};
static_assert(mor::CausalityPolicy<FixedBound, mor::Cpu<float>>);
// snippet-end

// snippet-begin balancing
/// Depths fall out as they will.
struct NoBalancing {
    static constexpr std::string_view suffix = ".acme_no_balancing";
    struct Options {};
    template <mor::Backend B>
    struct Weights {
        explicit Weights(mor::Index /*num_steps*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
        [[nodiscard]] mor::ConstVectorView<B> bias() const { return {}; }
        void reset() {}
    };
    explicit NoBalancing(const Options& /*options*/) {}

    template <mor::Backend B>
    void backward(mor::Context<B>& /*context*/, Weights<B>& /*weights*/,
                  mor::ConstMatrixView<B> /*gate*/, mor::ConstIndexView<B> /*best*/,
                  const mor::StepGradient<B>& /*gradient*/, mor::MatrixView<B> /*dgate*/) const {}
    template <mor::Backend B>
    void after_update(Weights<B>& /*weights*/) const {}
};
static_assert(mor::BalancingPolicy<NoBalancing, mor::Cpu<float>>);
// snippet-end

namespace {

using namespace mor::test;
using mor::Index;

struct HalfwayOfEverySecond : EverySecond {
    using EverySecond::EverySecond;
    using Merge = Halfway;
};

using WithEverySecond = RoutedBy<EverySecond>;
using WithPositiveScore = RoutedBy<PositiveScore>;
using WithHalfway = RoutedBy<HalfwayOfEverySecond>;
using WithLowRankExpert = RoutedBy<mor::ExpertChoiceRouter<LowRankNetwork>>;
using WithLowRankPredictor =
    RoutedBy<mor::ExpertChoiceRouter<mor::LinearNetwork, mor::AuxiliaryRouter<LowRankNetwork>>>;
using WithFixedBound = RoutedBy<mor::ExpertChoiceRouter<mor::LinearNetwork, FixedBound>>;
using WithNoBalancing = RoutedBy<mor::TokenChoiceRouter<LowRankNetwork, NoBalancing>>;

/// Passes over one small batch.
template <class A>
struct Passes {
    using B = mor::Cpu<float>;
    B cpu{{.threads = 1}};
    mor::Model<A, B> model;
    mor::Context<B> context{cpu};
    mor::Trace<A, B> trace;

    explicit Passes(const mor::ArchitectureOptions<A>& options = {})
        : model{cpu, small_config<A>(), options, 3} {}
    std::vector<Index> depths(const mor::ForwardOptions& options) {
        const Sequences sequences = random_sequences({9, 5}, 29, 5);
        model.forward(context, sequences.batch(), options, trace);
        return mor::token_depths(trace);
    }
};

}  // namespace

TEST_CASE_TEMPLATE("the minimal routers and their parts make models with right gradients", A,
                   WithEverySecond, WithPositiveScore, WithHalfway, WithLowRankExpert,
                   WithFixedBound, WithNoBalancing) {
    check_small_model<A>(5);
}

TEST_CASE_TEMPLATE("the minimal routers keep every token of a depth that is forced", A,
                   WithEverySecond, WithPositiveScore, WithFixedBound, WithNoBalancing) {
    Passes<A> passes;
    CHECK(passes.depths({.depth = {.forced_depth = 2}}) == std::vector<Index>(14, 2));
    CHECK(passes.depths({}) != std::vector<Index>(14, 2));
}

TEST_CASE("a router's name tells parts of one's own") {
    CHECK(WithLowRankExpert::Router::name == "expert_choice.acme_low_rank");
    CHECK(WithLowRankPredictor::Router::name == "expert_choice.auxiliary_router");
    CHECK(WithFixedBound::Router::name == "expert_choice.acme_fixed_bound");
    CHECK(WithNoBalancing::Router::name == "token_choice.acme_low_rank.acme_no_balancing");
}

TEST_CASE("a network of one's own can predict the selection") {
    Passes<WithLowRankPredictor> passes;
    auto* const inner = find_parameter(passes.model, "model.routers.1.auxiliary.inner.weight");
    REQUIRE(inner != nullptr);
    CHECK(inner->group() == mor::OptimizerGroup::auxiliary_router);
    inner->fill(0.0);  // a prediction of 0 is not above the bound
    CHECK(passes.depths({.decision = mor::Decision::causal}) == std::vector<Index>(14, 1));
}

TEST_CASE("a causal pass keeps what is above the bound of one's own causal rule") {
    const auto depths = [](double bound, mor::Decision decision) {
        Passes<WithFixedBound> passes{{.router = {.causality = {.bound = bound}}}};
        return passes.depths({.decision = decision});
    };
    CHECK(depths(-1e9, mor::Decision::causal) == std::vector<Index>(14, 3));
    CHECK(depths(1e9, mor::Decision::causal) == std::vector<Index>(14, 1));
    CHECK(depths(1e9, mor::Decision::look_ahead) == depths(-1e9, mor::Decision::look_ahead));
}

TEST_CASE("one part of a router is not another") {
    using B = mor::Cpu<float>;
    static_assert(!mor::BalancingPolicy<FixedBound, B> && !mor::BalancingPolicy<LowRankNetwork, B>);
    static_assert(!mor::CausalityPolicy<NoBalancing, B> && !mor::CausalityPolicy<int, B>);
    static_assert(!mor::RouterNetwork<FixedBound, B> && !mor::RouterNetwork<NoBalancing, B>);
}
