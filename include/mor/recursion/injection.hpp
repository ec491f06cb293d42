// SPDX-License-Identifier: Apache-2.0
//
// What joins the hidden states before each recursion step, besides the step before: the input of
// the recursion again, or a mark of which step it is.
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/layers/linear.hpp>
#include <mor/model/config.hpp>
#include <mor/ops/copy.hpp>
#include <mor/ops/scale.hpp>

#include <concepts>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace mor {

/// An injection has a name, Options, and for each backend
/// - `Weights<B>`, constructed from (const ModelConfig&, Index num_steps, const Options&), with
///   `initialize(Random&, double)` and `visit_parameters(visitor)`;
/// - `Weights<B>::Saved`, what backward needs of a step;
/// - `forward(context, step, entered, x, saved) const`: changes x [kept, hidden], the rows that
///   take the step; entered [kept, hidden] is what they were before the recursion;
/// - `backward(context, step, entered, saved, dentered, dx)`: turns the gradient dx of the changed
///   x into that of x, in place, and adds to dentered [kept, hidden].
template <class J, class B>
concept InjectionPolicy =
    requires { typename J::Options; } &&
    requires {
        { J::name } -> std::convertible_to<std::string_view>;
    } &&
    std::constructible_from<typename J::template Weights<B>, const ModelConfig&, Index,
                            const typename J::Options&> &&
    requires(typename J::template Weights<B>& weights, Context<B>& context, Index step,
             ConstMatrixView<B> entered, MatrixView<B> x,
             typename J::template Weights<B>::Saved& saved, Random& random) {
        weights.initialize(random, 0.02);
        std::as_const(weights).forward(context, step, entered, x, saved);
        weights.backward(context, step, entered, saved, x, x);
    };

/// Nothing is injected.
struct NoInjection {
    static constexpr std::string_view name = "none";
    static constexpr bool is_empty = true;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };
    template <Backend B>
    struct Weights {
        struct Saved {};
        Weights(const ModelConfig& /*config*/, Index /*num_steps*/, const Options& /*options*/) {}
        void initialize(Random& /*random*/, double /*deviation*/) {}
        template <class Visitor>
        void visit_parameters(Visitor&& /*visitor*/) {}
        void forward(Context<B>& /*context*/, Index /*step*/, ConstMatrixView<B> /*entered*/,
                     MatrixView<B> /*x*/, Saved& /*saved*/) const {}
        void backward(Context<B>& /*context*/, Index /*step*/, ConstMatrixView<B> /*entered*/,
                      const Saved& /*saved*/, MatrixView<B> /*dentered*/, MatrixView<B> /*dx*/) {}
    };
};

/// x = state * x + input * entered, two matrices: an adapter of the concatenation (Geiping et al.
/// 2025, section 3.2). At first it is the sum of both.
struct InputInjection {
    static constexpr std::string_view name = "input";
    static constexpr bool is_empty = false;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    /// "model.injection.state.weight" and "model.injection.input.weight" [hidden, hidden].
    template <Backend B>
    class Weights {
    public:
        struct Saved {
            ConstMatrixView<B> x;  // [kept, hidden] before
        };

        Weights(const ModelConfig& config, Index /*num_steps*/, const Options& /*options*/)
            : hidden_{config.hidden_size},
              state_{"model.injection.state.weight", {hidden_, hidden_}, WeightDecay::yes},
              input_{"model.injection.input.weight", {hidden_, hidden_}, WeightDecay::yes} {}

        void forward(Context<B>& context, Index /*step*/, ConstMatrixView<B> entered,
                     MatrixView<B> x, Saved& saved) const {
            const MatrixView<B> before = context.matrix(x.rows(), x.columns());
            ops::copy<B>(context, x, before);
            saved.x = before;
            ops::linear(context, saved.x, state_, x, Write::overwrite);
            ops::linear(context, entered, input_, x, Write::accumulate);
        }
        void backward(Context<B>& context, Index /*step*/, ConstMatrixView<B> entered,
                      const Saved& saved, MatrixView<B> dentered, MatrixView<B> dx) {
            const MatrixView<B> dy = context.matrix(dx.rows(), dx.columns());
            ops::copy<B>(context, dx, dy);
            ops::linear_backward_weight<B>(context, dy, saved.x, state_.gradient_matrix());
            ops::linear_backward_weight<B>(context, dy, entered, input_.gradient_matrix());
            ops::linear_backward_input(context, dy, state_, dx, Write::overwrite);
            ops::linear_backward_input(context, dy, input_, dentered, Write::accumulate);
        }
        /// The sum of both, and a little noise.
        void initialize(Random& random, double deviation) {
            for (Parameter<B>* parameter : {&state_, &input_}) {
                parameter->fill_normal(random, deviation);
                auto values = to_host(std::as_const(*parameter).value());
                for (Index i = 0; i < hidden_; ++i) {
                    values[static_cast<std::size_t>(i * hidden_ + i)] += 1;
                }
                from_host(parameter->value(), values);
            }
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            visitor(state_);
            visitor(input_);
        }

    private:
        Index hidden_;
        Parameter<B> state_;
        Parameter<B> input_;
    };
};

/// x = x + mark of the step, one learned vector a step (the time embedding of Dehghani et al. 2018,
/// "Universal Transformers"; positions are the rotary embedding's business).
struct StepEmbedding {
    static constexpr std::string_view name = "step_embedding";
    static constexpr bool is_empty = false;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    /// "model.injection.step.<step>" [hidden].
    template <Backend B>
    class Weights {
    public:
        struct Saved {};

        Weights(const ModelConfig& config, Index num_steps, const Options& /*options*/) {
            for (Index step = 0; step < num_steps; ++step) {
                marks_.emplace_back("model.injection.step." + std::to_string(step),
                                    std::vector<Index>{config.hidden_size}, WeightDecay::no);
            }
        }

        void forward(Context<B>& context, Index step, ConstMatrixView<B> /*entered*/,
                     MatrixView<B> x, Saved& /*saved*/) const {
            const MatrixView<B> ones = filled(context, x);
            ops::scale_columns<B>(context, ones, marks_[static_cast<std::size_t>(step)].value(), x,
                                  Write::accumulate);
        }
        void backward(Context<B>& context, Index step, ConstMatrixView<B> /*entered*/,
                      const Saved& /*saved*/, MatrixView<B> /*dentered*/, MatrixView<B> dx) {
            auto& mark = marks_[static_cast<std::size_t>(step)];
            const MatrixView<B> unused = context.matrix(dx.rows(), dx.columns());
            ops::scale_columns_backward<B>(context, filled(context, dx),
                                           std::as_const(mark).value(), dx, unused,
                                           mark.gradient());
        }
        void initialize(Random& random, double deviation) {
            for (Parameter<B>& mark : marks_) {
                mark.fill_normal(random, deviation);
            }
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            for (Parameter<B>& mark : marks_) {
                visitor(mark);
            }
        }

    private:
        static MatrixView<B> filled(Context<B>& context, ConstMatrixView<B> like) {
            const MatrixView<B> ones = context.matrix(like.rows(), like.columns());
            ops::fill<B>(context, 1.0, ones.flat());
            return ones;
        }

        std::vector<Parameter<B>> marks_;  // [steps]
    };
};

}  // namespace mor
