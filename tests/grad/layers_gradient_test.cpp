// SPDX-License-Identifier: Apache-2.0
//
// The gradients of single layers, of their inputs and of every parameter, against finite
// differences in double. The loss of each is the dot product of its output with fixed numbers.
#include <mor/backends/cpu/cpu.hpp>
#include <mor/layers/attention.hpp>
#include <mor/layers/decoder_block.hpp>
#include <mor/layers/embedding.hpp>
#include <mor/layers/relaxation/adaption_prompt.hpp>
#include <mor/layers/relaxation/low_rank.hpp>
#include <mor/layers/relaxation/recursion_encoding.hpp>
#include <mor/layers/relaxation/unshared_norms.hpp>
#include <mor/layers/rms_norm.hpp>
#include <mor/layers/swiglu.hpp>
#include <mor/ops/rows.hpp>
#include <mor/recursion/injection.hpp>
#include <mor/testing/gradient_check.hpp>
#include <mor/testing/random_fill.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <numeric>
#include <string>
#include <vector>

namespace {

using mor::Index;
using mor::TokenId;

using B = mor::Cpu<double>;
using Context = mor::Context<B>;
using Matrix = mor::MatrixView<B>;
using Values = std::vector<double>;

constexpr mor::testing::GradientCheckOptions differences{.step = 1e-3, .tolerance = 1e-6};

const mor::ModelConfig config{.vocab_size = 11,
                              .hidden_size = 8,
                              .intermediate_size = 12,
                              .num_layers = 1,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 4,
                              .max_positions = 32};

/// Computes `out` from an input [rows, hidden]; and the input's gradient from that of `out`,
/// adding to those of the parameters.
struct Pass {
    std::function<Matrix(Context&, Matrix)> forward;
    std::function<Matrix(Context&, Matrix)> backward;
};

Values random_values(Index count, std::uint64_t seed) {
    mor::Random random{seed};
    return mor::testing::normal_values(random, count);
}

/// Checks the gradients of the input and of every parameter of `layer`.
template <class Layer>
void check_layer(Layer& layer, Index rows, const Pass& pass) {
    B cpu{{.threads = 1}};
    Context context{cpu};
    mor::Random random{1};
    const auto each_parameter = [&](const std::function<void(mor::Parameter<B>&)>& visitor) {
        layer.visit_parameters([&](mor::Parameter<B>& parameter) { visitor(parameter); });
    };
    each_parameter([&](mor::Parameter<B>& parameter) {
        mor::testing::random_fill(parameter.value(), random, 0.5);
        parameter.zero_gradient();
    });

    const Values input = random_values(rows * config.hidden_size, 2);
    Values weights;
    const auto run = [&](const Values& x) {
        context.arena().release({});
        const Matrix view = context.matrix(rows, config.hidden_size);
        mor::from_host(view, x);
        return pass.forward(context, view);
    };
    const auto loss = [&](const Values& x) {
        const Values out = mor::to_host(run(x));
        return std::inner_product(out.begin(), out.end(), weights.begin(), 0.0);
    };

    const Matrix out = run(input);
    weights = random_values(out.size(), 3);
    const Matrix dout = context.matrix(out.rows(), out.columns());
    mor::from_host(dout, weights);
    const Values dinput = mor::to_host(pass.backward(context, dout));

    const auto of_input = mor::testing::check_gradient(loss, input, dinput, differences);
    CHECK_MESSAGE(of_input.passes(), "input: ", of_input.message());
    each_parameter([&](mor::Parameter<B>& parameter) {
        const Values center = mor::to_host(parameter.value());
        const auto of_parameter = mor::testing::check_gradient(
            [&](const Values& point) {
                mor::from_host(parameter.value(), point);
                return loss(input);
            },
            center, mor::to_host(parameter.gradient()), differences);
        mor::from_host(parameter.value(), center);
        CHECK_MESSAGE(of_parameter.passes(), parameter.name(), ": ", of_parameter.message());
    });
}

Matrix copy_of(Context& context, mor::ConstMatrixView<B> x) {
    const Matrix copy = context.matrix(x.rows(), x.columns());
    mor::ops::copy<B>(context, x, copy);
    return copy;
}

/// Keys and values of a pass of one layer, for itself and for others to read.
struct OwnKeys {
    mor::KeyRanges<B> ranges;
    Matrix keys = {};
    Matrix values = {};

    static bool computes() { return true; }
    void publish(Context& /*context*/, Matrix k, Matrix v) {
        keys = k;
        values = v;
    }
    mor::KeyValues<B> visible(Context& /*context*/) const { return {keys, values, ranges}; }
};

struct BorrowedKeys {
    const OwnKeys& owner;

    static bool computes() { return false; }
    static void publish(Context& /*context*/, Matrix /*keys*/, Matrix /*values*/) {
        FAIL("a layer that does not own its keys published some");
    }
    mor::KeyValues<B> visible(Context& context) const { return owner.visible(context); }
};

/// Two sequences of three and four rows; positions with gaps, as in a recursion step.
struct Ragged {
    static constexpr Index rows = 7;
    mor::Rows<B> structure;
    mor::KeyRanges<B> ranges;

    explicit Ragged(Context& context) {
        const auto offsets = context.indices(3);
        const auto positions = context.indices(rows);
        mor::from_host(offsets, {0, 3, 7});
        mor::from_host(positions, {0, 2, 5, 1, 2, 8, 9});
        structure = {offsets, positions};
        ranges = mor::ops::visible_keys<B>(context, structure, structure);
    }
};

/// Gradients of the keys and values of one layer, which itself or another has seen.
struct KeyGradients {
    mor::KeyValueGradients<B> sum;
    bool is_own = true;

    explicit KeyGradients(Context& context) {
        const Index width = config.num_kv_heads * config.head_dim;
        sum = {context.zero_matrix(Ragged::rows, width), context.zero_matrix(Ragged::rows, width)};
    }
    [[nodiscard]] bool computes() const { return is_own; }
    mor::KeyValueGradients<B> visible(Context& /*context*/) const { return sum; }
    mor::KeyValueGradients<B> own(Context& /*context*/) const { return sum; }
};

/// Two uses; the second ends a recursion step.
const mor::LayerUses uses{.physical = 0, .uses = {{0, false}, {1, true}}};

}  // namespace

TEST_CASE("RmsNorm") {
    mor::RmsNorm<B> layer{"norm", config.hidden_size, 1e-5};
    mor::RmsNorm<B>::Saved saved;
    check_layer(layer, 5,
                {[&](Context& context, Matrix x) { return layer.forward(context, x, saved); },
                 [&](Context& context, Matrix dout) {
                     const Matrix dx = context.zero_matrix(dout.rows(), dout.columns());
                     layer.backward(context, saved, dout, dx);
                     return dx;
                 }});
}

TEST_CASE("Linear, overwriting and accumulating") {
    mor::Linear<B> layer{"linear", config.hidden_size, 5};
    mor::ConstMatrixView<B> input;
    for (const mor::Write write : {mor::Write::overwrite, mor::Write::accumulate}) {
        check_layer(layer, 6,
                    {[&](Context& context, Matrix x) {
                         input = x;
                         const Matrix out = context.zero_matrix(x.rows(), 5);
                         layer.forward(context, x, out, write);
                         return out;
                     },
                     [&](Context& context, Matrix dout) {
                         const Matrix dx = context.zero_matrix(dout.rows(), config.hidden_size);
                         layer.backward(context, input, dout, dx, write);
                         return dx;
                     }});
    }
}

TEST_CASE("SwiGlu") {
    mor::SwiGlu<B> layer{uses, config};
    mor::SwiGlu<B>::Saved saved;
    check_layer(layer, 5,
                {[&](Context& context, Matrix x) {
                     const Matrix out = context.zero_matrix(x.rows(), x.columns());
                     layer.forward(context, 0, x, out, saved);
                     return out;
                 },
                 [&](Context& context, Matrix dout) {
                     const Matrix dx = context.matrix(dout.rows(), dout.columns());
                     layer.backward(context, 0, saved, dout, dx);
                     return dx;
                 }});
}

TEST_CASE("Attention over ragged rows with positions of their own") {
    const mor::Rotary<B> rotary{config.max_positions, config.head_dim, config.rope_theta};
    mor::Attention<B> layer{uses, config};
    mor::Attention<B>::Saved saved;
    mor::ConstIndexView<B> positions;
    check_layer(layer, Ragged::rows,
                {[&](Context& context, Matrix x) {
                     const Ragged ragged{context};
                     OwnKeys source{ragged.ranges};
                     const Matrix out = context.zero_matrix(x.rows(), x.columns());
                     positions = ragged.structure.positions;
                     layer.forward(context, {positions, rotary}, x, source, out, saved);
                     return out;
                 },
                 [&](Context& context, Matrix dout) {
                     const Matrix dx = context.matrix(dout.rows(), dout.columns());
                     KeyGradients gradients{context};
                     layer.backward(context, {positions, rotary}, saved, gradients, dout, dx);
                     return dx;
                 }});
}

namespace {

/// A layer, and another that attends to the first one's keys and values.
struct AttentionPair {
    using Attention = mor::Attention<B>;
    Attention owner{uses, config};
    Attention reader{uses, config};
    Attention::Saved owner_saved = {};
    Attention::Saved reader_saved = {};
    mor::ConstIndexView<B> positions = {};

    /// All but the projections that a reader does not use.
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        owner.visit_parameters(visitor);
        reader.visit_parameters([&](mor::Parameter<B>& parameter) {
            if (parameter.name().find("k_proj") == std::string::npos &&
                parameter.name().find("v_proj") == std::string::npos) {
                visitor(parameter);
            }
        });
    }
};

}  // namespace

TEST_CASE("Attention to the keys and values of another layer") {
    const mor::Rotary<B> rotary{config.max_positions, config.head_dim, config.rope_theta};
    AttentionPair pair;
    check_layer(pair, Ragged::rows,
                {[&](Context& context, Matrix x) {
                     const Ragged ragged{context};
                     OwnKeys own{ragged.ranges};
                     BorrowedKeys borrowed{own};
                     const Matrix out = copy_of(context, x);
                     pair.positions = ragged.structure.positions;
                     const mor::LayerInput<B> input{pair.positions, rotary};
                     pair.owner.forward(context, input, x, own, out, pair.owner_saved);
                     pair.reader.forward(context, input, copy_of(context, out), borrowed, out,
                                         pair.reader_saved);
                     return out;
                 },
                 [&](Context& context, Matrix dout) {
                     KeyGradients gradients{context};
                     const mor::LayerInput<B> input{pair.positions, rotary};
                     const Matrix dx = copy_of(context, dout);
                     const Matrix part = context.matrix(dout.rows(), dout.columns());
                     const auto add_part = [&] {
                         for (Index i = 0; i < dx.size(); ++i) {
                             dx.flat()[i] += part.flat()[i];
                         }
                     };
                     gradients.is_own = false;
                     pair.reader.backward(context, input, pair.reader_saved, gradients, dx, part);
                     add_part();
                     gradients.is_own = true;
                     pair.owner.backward(context, input, pair.owner_saved, gradients, dx, part);
                     add_part();
                     return dx;
                 }});
}

TEST_CASE_TEMPLATE("DecoderBlock, in the second of its two uses", Relaxation, mor::NoRelaxation,
                   mor::UnsharedNorms, mor::LowRank, mor::RecursionEncoding, mor::AdaptionPrompt) {
    const mor::Rotary<B> rotary{config.max_positions, config.head_dim, config.rope_theta};
    mor::DecoderBlock<B, Relaxation> layer{uses, config};
    typename mor::DecoderBlock<B, Relaxation>::Saved saved;
    mor::ConstIndexView<B> positions;
    check_layer(layer, Ragged::rows,
                {[&](Context& context, Matrix x) {
                     const Ragged ragged{context};
                     OwnKeys source{ragged.ranges};
                     positions = ragged.structure.positions;
                     layer.forward(context, x, {positions, rotary, 1}, source, saved);
                     return x;
                 },
                 [&](Context& context, Matrix dout) {
                     KeyGradients gradients{context};
                     layer.backward(context, saved, {positions, rotary, 1}, gradients, dout);
                     return dout;
                 }});
}

TEST_CASE_TEMPLATE("Injection", J, mor::InputInjection, mor::StepEmbedding) {
    typename J::template Weights<B> layer{config, 3, {}};
    typename J::template Weights<B>::Saved saved;
    mor::ConstMatrixView<B> entered;
    check_layer(layer, 5,
                {[&](Context& context, Matrix x) {
                     entered = copy_of(context, x);  // both are the input
                     layer.forward(context, 1, entered, x, saved);
                     return x;
                 },
                 [&](Context& context, Matrix dout) {
                     const Matrix dentered = context.zero_matrix(dout.rows(), dout.columns());
                     layer.backward(context, 1, entered, saved, dentered, dout);
                     mor::ops::scale<B>(context, dentered, 1.0, dout, mor::Write::accumulate);
                     return dout;
                 }});
}

TEST_CASE("Embedding and head, tied and not") {
    for (const bool tied : {true, false}) {
        mor::ModelConfig sizes = config;
        sizes.tie_embeddings = tied;
        mor::Embedding<B> layer{sizes};
        // The input is added to the embeddings, so that its gradient is that of the head's input.
        mor::ConstTokenView<B> tokens;
        mor::ConstMatrixView<B> projected;
        check_layer(layer, 6,
                    {[&](Context& context, Matrix x) {
                         const auto ids = context.arena().make<TokenId, 1>({6});
                         mor::from_host(ids, {3, 0, 10, 3, 3, 7});
                         tokens = ids;
                         const Matrix sum = context.matrix(6, config.hidden_size);
                         layer.embed(context, tokens, sum);
                         for (Index i = 0; i < sum.size(); ++i) {
                             sum.flat()[i] += x.flat()[i];
                         }
                         projected = sum;
                         const Matrix logits = context.matrix(6, config.vocab_size);
                         layer.project(context, sum, logits);
                         return logits;
                     },
                     [&](Context& context, Matrix dout) {
                         const Matrix dx = context.matrix(6, config.hidden_size);
                         layer.project_backward(context, projected, dout, dx);
                         layer.embed_backward(context, tokens, dx);
                         return dx;
                     }});
    }
}
