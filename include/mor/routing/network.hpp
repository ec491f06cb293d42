// SPDX-License-Identifier: Apache-2.0
//
// The networks that turn a hidden state into router logits (paper, section 2.2.1 and ablations).
#pragma once

#include <mor/core/reflect.hpp>
#include <mor/layers/linear.hpp>
#include <mor/ops/gelu.hpp>
#include <mor/routing/concept.hpp>

#include <concepts>
#include <string>
#include <string_view>
#include <tuple>

namespace mor {

/// A network type names itself in checkpoints by `suffix`, has Options, and for each backend
/// `Weights<B>`, constructed from (name prefix, inputs, outputs, options), with `initialize`,
/// `visit_parameters` and
/// - `forward(context, x, logits, saved) const`: x [rows, inputs] to logits [rows, outputs],
/// - `backward(context, x, saved, dlogits, dx)`: adds to the gradients of its weights, and to dx
///   [rows, inputs] unless that is empty: then the input is detached.
template <class N, class B>
concept RouterNetwork =
    HasSuffixAndOptions<N> && requires { typename N::template Weights<B>::Saved; } &&
    std::semiregular<typename N::template Weights<B>::Saved> &&
    std::move_constructible<typename N::template Weights<B>> &&
    std::constructible_from<typename N::template Weights<B>, const std::string&, Index, Index,
                            const typename N::Options&> &&
    requires(typename N::template Weights<B>& weights,
             const typename N::template Weights<B>& constant, Random& random,
             detail::AnyVisitor visitor, Context<B>& context, ConstMatrixView<B> x, MatrixView<B> y,
             typename N::template Weights<B>::Saved& saved) {
        weights.initialize(random, 0.02);
        weights.visit_parameters(visitor);
        constant.forward(context, x, y, saved);
        weights.backward(context, x, saved, y, y);
    };

namespace detail {

/// One sentence for what is missing: that of the name and the options before a backend is known.
template <class N>
consteval bool explain_network_options() {
    static_assert(HasSuffixAndOptions<N>,
                  "mor: RouterNetwork: a router's Network needs 'static constexpr std::string_view "
                  "suffix' and an aggregate 'Options' with defaults. "
                  "See docs/concepts/router_parts.md");
    return true;
}
template <class N, class B>
consteval bool explain_network() {
    static_assert(
        RouterNetwork<N, B>,
        "mor: RouterNetwork: a router's Network needs 'Weights<B>' with 'Saved', a constructor "
        "(const std::string& prefix, Index inputs, Index outputs, const Options&), 'initialize', "
        "'visit_parameters', 'void forward(Context<B>&, ConstMatrixView<B> x, MatrixView<B> "
        "logits, Saved&) const' and 'void backward(Context<B>&, ConstMatrixView<B> x, const "
        "Saved&, ConstMatrixView<B> dlogits, MatrixView<B> dx)'. "
        "See docs/concepts/router_parts.md");
    return true;
}

}  // namespace detail

/// logits = weight * x. The paper's best for expert-choice.
struct LinearNetwork {
    static constexpr std::string_view suffix = "";
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };

    template <Backend B>
    class Weights {
    public:
        struct Saved {};

        /// "<prefix>weight" [outputs, inputs].
        Weights(const std::string& prefix, Index inputs, Index outputs, const Options& /*options*/)
            : linear_{prefix + "weight", inputs, outputs} {}

        void forward(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> logits,
                     Saved& /*saved*/) const {
            linear_.forward(context, x, logits);
        }
        void backward(Context<B>& context, ConstMatrixView<B> x, const Saved& /*saved*/,
                      ConstMatrixView<B> dlogits, MatrixView<B> dx) {
            linear_.backward_weight(context, x, dlogits);
            if (dx.data() != nullptr) {
                linear_.backward_input(context, dlogits, dx, Write::accumulate);
            }
        }

        void initialize(Random& random, double deviation) { linear_.initialize(random, deviation); }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            linear_.visit_parameters(visitor);
        }

    private:
        Linear<B> linear_;
    };
};

/// logits = outer * gelu(inner * x), the inner width a multiple of the input's. The paper's MLP and
/// wide MLP differ in nothing but that multiple, and not even in that in the authors' code.
struct MlpNetwork {
    static constexpr std::string_view suffix = ".mlp";
    struct Options {
        Index width_multiple = 2;

        static constexpr auto fields() {
            return std::tuple{Field{"width_multiple", &Options::width_multiple}};
        }
    };

    template <Backend B>
    class Weights {
    public:
        struct Saved {
            MatrixView<B> inner;      // [rows, width]
            MatrixView<B> activated;  // gelu(inner)
        };

        /// "<prefix>0.weight" [width, inputs] and "<prefix>2.weight" [outputs, width]. Throws
        /// ConfigError if width_multiple is not positive.
        Weights(const std::string& prefix, Index inputs, Index outputs, const Options& options)
            : inner_{prefix + "0.weight", inputs, width(inputs, options)},
              outer_{prefix + "2.weight", width(inputs, options), outputs} {}

        void forward(Context<B>& context, ConstMatrixView<B> x, MatrixView<B> logits,
                     Saved& saved) const {
            saved = {context.matrix(x.rows(), inner_.outputs()),
                     context.matrix(x.rows(), inner_.outputs())};
            inner_.forward(context, x, saved.inner);
            ops::gelu<B>(context, saved.inner, saved.activated);
            outer_.forward(context, saved.activated, logits);
        }
        void backward(Context<B>& context, ConstMatrixView<B> x, const Saved& saved,
                      ConstMatrixView<B> dlogits, MatrixView<B> dx) {
            const MatrixView<B> dinner = context.matrix(x.rows(), inner_.outputs());
            outer_.backward(context, saved.activated, dlogits, dinner, Write::overwrite);
            ops::gelu_backward<B>(context, saved.inner, dinner, dinner);
            inner_.backward_weight(context, x, dinner);
            if (dx.data() != nullptr) {
                inner_.backward_input(context, dinner, dx, Write::accumulate);
            }
        }

        void initialize(Random& random, double deviation) {
            inner_.initialize(random, deviation);
            outer_.initialize(random, deviation);
        }
        template <class Visitor>
        void visit_parameters(Visitor&& visitor) {
            inner_.visit_parameters(visitor);
            outer_.visit_parameters(visitor);
        }

    private:
        static Index width(Index inputs, const Options& options) {
            check<ConfigError>(options.width_multiple > 0, "mor::MlpNetwork: width_multiple is ",
                               options.width_multiple, ", expected at least 1");
            return options.width_multiple * inputs;
        }

        Linear<B> inner_;
        Linear<B> outer_;
    };
};

}  // namespace mor
