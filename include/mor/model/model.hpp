// SPDX-License-Identifier: Apache-2.0
//
// Model<A, B>: the parameters of architecture A on backend B, and its two passes: `forward` over
// whole sequences and `extend`, which continues sequences from a KV cache.
#pragma once

#include <mor/cache/key_layers.hpp>
#include <mor/cache/key_value_cache.hpp>
#include <mor/core/random.hpp>
#include <mor/layers/embedding.hpp>
#include <mor/layers/rms_norm.hpp>
#include <mor/layers/rotary.hpp>
#include <mor/model/architecture.hpp>
#include <mor/model/config.hpp>
#include <mor/model/trace.hpp>
#include <mor/model/walk.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor {

/// Which rows get logits.
enum class Logits { all_rows, last_rows };

struct ExtendOptions {
    Logits logits = Logits::all_rows;
    DepthControl depth = {};
};

template <class A, class B>
    requires(detail::explain_architecture<A, B>()) && Architecture<A, B>
class Model {
public:
    using ArchitectureType = A;
    using BackendType = B;
    using Options = ArchitectureOptions<A>;
    using Block = BlockOf<A, B>;
    using RouterWeights = typename detail::RouterState<typename A::Router, B>::Weights;

    /// Fresh weights: matrices normal with deviation config.initializer_range, norms 1.
    /// Throws ConfigError if sizes or options are impossible.
    explicit Model(B& backend, const ModelConfig& config = {}, const Options& options = {},
                   std::uint64_t seed = 0)
        : backend_{&backend},
          config_{(validate(config), config)},
          options_{options},
          layout_{typename A::Sharing{options.sharing}.layout(config.num_layers)},
          router_{options.router},
          schedule_{options.schedule},
          cache_policy_{options.cache},
          rotary_{config.max_positions, config.head_dim, config.rope_theta},
          embedding_{config},
          router_weights_{make_router_weights()},
          injection_weights_{config_, layout_.num_steps, options_.injection},
          norm_{"model.norm.weight", config.hidden_size, config.rms_norm_epsilon} {
        for (const LayerUses& uses : find_uses()) {
            if constexpr (std::constructible_from<Block, const LayerUses&, const ModelConfig&,
                                                  const typename A::Relaxation::Options&>) {
                blocks_.emplace_back(uses, config_, options_.relaxation);
            } else {
                blocks_.emplace_back(uses, config_);
            }
        }
        check_schedule();
        check_cache_policy();
        for (Index layer = 0; layer < layout_.num_unrolled(); ++layer) {
            key_uses_.push_back(detail::KeyUse::of(cache_policy_, layout_, layer));
        }
        initialize(seed);
    }

    /// One pass over whole sequences that keeps what backward needs; trace.logits [rows, vocab],
    /// or empty without options.computes_logits. Throws ShapeError if lengths and tokens do not
    /// fit, a token is outside the vocabulary, or a sequence is longer than config.max_positions;
    /// ConfigError if options.depth is impossible.
    template <class Observer = NoObserver>
    void forward(Context<B>& context, const Batch& batch, const ForwardOptions& options,
                 Trace<A, B>& trace, Observer&& observer = {}) const {
        detail::explain_observer<Observer, B>();
        validate(options.depth, std::ssize(batch.lengths));
        context.arena().release({});
        const auto start = [](Index /*sequence*/) { return Index{0}; };
        const MatrixView<B> x = enter(context, batch, start, trace);
        const detail::WalkOptions<B> walk{.forward = options};
        leave(context, detail::Walk{*this, context, walk, trace, observer}.run(x), options, trace);
    }

    /// Continues each of the cache's sequences by lengths[s] >= 0 tokens, deciding causally.
    /// Nothing is kept for backward. trace.logits [rows, vocab], or one row for each sequence that
    /// was continued; then layers that only serve other rows are left out. Throws like forward,
    /// before anything changes; if memory runs out on the way, the cache's sequences must be
    /// cleared before they are used again.
    template <class Observer = NoObserver>
    void extend(Context<B>& context, const Batch& batch, KeyValueCache<B>& cache,
                Trace<A, B>& trace, const ExtendOptions& options = {},
                Observer&& observer = {}) const {
        detail::explain_observer<Observer, B>();
        check_fits(batch, cache);
        validate(options.depth, std::ssize(batch.lengths));
        context.arena().release({});
        const auto start = [&cache](Index sequence) { return cache.length(sequence); };
        MatrixView<B> x = enter(context, batch, start, trace);
        detail::WalkOptions<B> walk{
            .forward = {.decision = Decision::causal, .depth = options.depth}, .cache = &cache};
        if (options.logits == Logits::last_rows) {
            walk.wanted = last_rows(context, batch, trace.host.wanted);
        }
        const Index rows = x.rows();
        x = detail::Walk{*this, context, walk, trace, observer}.run(x);
        for (Index s = 0; s < cache.num_sequences(); ++s) {
            cache.advance(s, batch.lengths[static_cast<std::size_t>(s)]);
        }
        if (options.logits == Logits::last_rows && x.rows() == rows) {
            const MatrixView<B> wanted = context.matrix(walk.wanted.size(), x.columns());
            ops::gather_rows<B>(context, x, walk.wanted, wanted);
            x = wanted;
        }
        leave(context, x, walk.forward, trace);
    }

    /// A cache of another backend cannot be used.
    template <class Other, class... Rest>
        requires(!std::same_as<Other, B>)
    void extend(Context<B>& /*context*/, const Batch& /*batch*/, KeyValueCache<Other>& /*cache*/,
                Rest&&... /*rest*/) const {
        static_assert(std::same_as<Other, B>,
                      "mor: CachePolicy: the key-value cache belongs to another backend than the "
                      "model");
    }

    /// The parts of a pass outside its layers: x [rows, hidden] from tokens [rows], and logits
    /// [rows, vocab], in the arena, from final hidden states.
    void embed(Context<B>& context, ConstTokenView<B> tokens, MatrixView<B> x) const {
        embedding_.embed(context, tokens, x);
    }
    [[nodiscard]] MatrixView<B> logits(Context<B>& context, ConstMatrixView<B> x) const {
        typename RmsNorm<B>::Saved saved{};
        const MatrixView<B> logits = context.matrix(x.rows(), config_.vocab_size);
        embedding_.project(context, norm_.forward(context, x, saved), logits);
        return logits;
    }

    /// An empty cache for `num_sequences` sequences of this model.
    [[nodiscard]] KeyValueCache<B> make_cache(Index num_sequences) const {
        return {layout_.num_unrolled(), num_sequences, config_.num_kv_heads * config_.head_dim};
    }

    [[nodiscard]] B& backend() const { return *backend_; }
    [[nodiscard]] const ModelConfig& config() const { return config_; }
    [[nodiscard]] const Options& options() const { return options_; }
    [[nodiscard]] const Layout& layout() const { return layout_; }
    [[nodiscard]] const typename A::Router& router() const { return router_; }
    [[nodiscard]] const typename A::Schedule& schedule() const { return schedule_; }
    [[nodiscard]] const typename A::Cache& cache_policy() const { return cache_policy_; }
    /// Whose keys and values each layer attends to, [unrolled layers].
    [[nodiscard]] const std::vector<detail::KeyUse>& key_uses() const { return key_uses_; }
    [[nodiscard]] const Rotary<B>& rotary() const { return rotary_; }
    [[nodiscard]] Embedding<B>& embedding() { return embedding_; }
    [[nodiscard]] const Embedding<B>& embedding() const { return embedding_; }
    [[nodiscard]] RmsNorm<B>& norm() { return norm_; }
    [[nodiscard]] RouterWeights& router_weights() { return router_weights_; }
    [[nodiscard]] const RouterWeights& router_weights() const { return router_weights_; }
    [[nodiscard]] InjectionWeights<A, B>& injection_weights() { return injection_weights_; }
    [[nodiscard]] const InjectionWeights<A, B>& injection_weights() const {
        return injection_weights_;
    }
    /// Which of its physical block's uses an unrolled layer is.
    [[nodiscard]] Index use_of(Index layer) const {
        return use_of_[static_cast<std::size_t>(layer)];
    }
    /// The physical block behind an unrolled layer.
    [[nodiscard]] Block& block_of(Index layer) { return blocks_[physical(layer)]; }
    [[nodiscard]] const Block& block_of(Index layer) const { return blocks_[physical(layer)]; }

    /// Calls visitor(Parameter<B>&) once for each distinct parameter, always in the same order.
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) {
        embedding_.visit_parameters(visitor);
        for (Block& block : blocks_) {
            block.visit_parameters(visitor);
        }
        if constexpr (LearnedRouter<typename A::Router, B>) {
            router_weights_.visit_parameters(visitor);
        }
        injection_weights_.visit_parameters(visitor);
        norm_.visit_parameters(visitor);
    }
    template <class Visitor>
    void visit_parameters(Visitor&& visitor) const {
        // The parameters are only shown as const: layers need no second visiting function for that.
        const_cast<Model&>(*this).visit_parameters(
            [&visitor](const Parameter<B>& parameter) { visitor(parameter); });
    }

    /// The number of distinct trained numbers.
    [[nodiscard]] Index num_parameters() const {
        Index count = 0;
        visit_parameters([&count](const Parameter<B>& parameter) { count += parameter.size(); });
        return count;
    }

    /// Lets the router move what gradients do not train. The trainer calls it after each update.
    void after_update() {
        if constexpr (requires { router_.after_update(router_weights_); }) {
            router_.after_update(router_weights_);
        }
    }

    void zero_gradients() {
        visit_parameters([](Parameter<B>& parameter) { parameter.zero_gradient(); });
    }

private:
    [[nodiscard]] std::size_t physical(Index layer) const {
        return static_cast<std::size_t>(layout_.physical[static_cast<std::size_t>(layer)]);
    }

    /// Where the weights of each physical layer are used; numbers the uses.
    std::vector<LayerUses> find_uses() {
        std::vector<LayerUses> found(static_cast<std::size_t>(layout_.num_physical()));
        for (Index layer = 0; layer < layout_.num_unrolled(); ++layer) {
            LayerUses& uses = found[physical(layer)];
            uses.physical = static_cast<Index>(physical(layer));
            use_of_.push_back(uses.count());
            const Index step = layout_.step_of(layer);
            const bool ends =
                step >= 0 && layer == layout_.layer_at(step, layout_.layers_per_step - 1);
            uses.uses.push_back({layer, ends});
        }
        for (LayerUses& uses : found) {
            for (LayerUses::Use& use : uses.uses) {
                // Without steps, each use of a shared layer is a pass over it.
                use.ends_step = use.ends_step || (layout_.num_steps == 0 && uses.is_shared());
            }
        }
        return found;
    }

    void check_fits(const Batch& batch, const KeyValueCache<B>& cache) const {
        check<ShapeError>(std::ssize(batch.lengths) == cache.num_sequences(),
                          "mor::Model::extend: ", batch.lengths.size(), " lengths for a cache of ",
                          cache.num_sequences(), " sequences");
        check<ShapeError>(cache.num_layers() == layout_.num_unrolled() &&
                              cache.key_width() == config_.num_kv_heads * config_.head_dim,
                          "mor::Model::extend: a cache of ", cache.num_layers(),
                          " layers of width ", cache.key_width(), " for a model of ",
                          layout_.num_unrolled(), " layers of width ",
                          config_.num_kv_heads * config_.head_dim);
    }

    void check_schedule() const {
        if constexpr (requires { schedule_.check_steps(Index{}); }) {
            schedule_.check_steps(layout_.num_steps);
        }
        for (const Index training_step : {Index{0}, Index{1}}) {
            double previous = 1;
            for (Index step = 0; step < layout_.num_steps; ++step) {
                const double capacity = schedule_.capacity(step, layout_.num_steps, training_step);
                check<ConfigError>(capacity > 0 && capacity <= previous, "mor: schedule ",
                                   A::Schedule::name, ": the capacity of step ", step, " is ",
                                   capacity, ", expected a number above 0 and at most ", previous,
                                   step == 0 ? "" : ", that of the step before");
                previous = capacity;
            }
        }
    }

    void check_cache_policy() const {
        using Router = typename A::Router;
        constexpr StepRows rows = keeps_every_token<Router>         ? StepRows::all
                                  : reconsiders_every_token<Router> ? StepRows::any
                                                                    : StepRows::nested;
        for (Index layer = 0; layer < layout_.num_unrolled(); ++layer) {
            const std::string_view problem = key_layer_problem(cache_policy_, layout_, layer, rows);
            check<ConfigError>(problem.empty(), "mor: cache policy ", A::Cache::name, ", layer ",
                               layer, ": ", problem, ", which is not so with layer ",
                               cache_policy_.key_layer(layout_, layer));
        }
    }

    RouterWeights make_router_weights() const {
        if constexpr (LearnedRouter<typename A::Router, B>) {
            return RouterWeights{config_, layout_.num_steps, options_.router};
        } else {
            return {};
        }
    }

    void initialize(std::uint64_t seed) {
        Random random{seed, weights_stream};
        embedding_.initialize(random, config_.initializer_range);
        for (Block& block : blocks_) {
            block.initialize(random, config_.initializer_range);
        }
        if constexpr (LearnedRouter<typename A::Router, B>) {
            router_weights_.initialize(random, config_.initializer_range);
        }
        injection_weights_.initialize(random, config_.initializer_range);
    }

    /// Checks the batch, moves it into the arena and embeds it. start(s) is the first position of
    /// sequence s.
    template <class Start>
    MatrixView<B> enter(Context<B>& context, const Batch& batch, const Start& start,
                        Trace<A, B>& trace) const {
        auto& offsets = trace.host.offsets;
        auto& positions = trace.host.positions;
        offsets.assign(1, 0);
        positions.clear();
        for (Index s = 0; s < std::ssize(batch.lengths); ++s) {
            const Index length = batch.lengths[static_cast<std::size_t>(s)];
            check<ShapeError>(length >= 0, "mor::Model: sequence ", s, " has length ", length);
            const Index first = start(s);
            check<ShapeError>(first + length <= config_.max_positions, "mor::Model: sequence ", s,
                              " reaches position ", first + length, ", but max_positions is ",
                              config_.max_positions);
            offsets.push_back(offsets.back() + length);
            for (Index i = 0; i < length; ++i) {
                positions.push_back(first + i);
            }
        }
        check<ShapeError>(offsets.back() == std::ssize(batch.tokens),
                          "mor::Model: ", batch.tokens.size(),
                          " tokens, but the lengths add up to ", offsets.back());
        for (const TokenId token : batch.tokens) {
            check<ShapeError>(token >= 0 && token < config_.vocab_size, "mor::Model: token ", token,
                              " is outside the vocabulary of ", config_.vocab_size);
        }
        const IndexView<B> offsets_view = context.indices(std::ssize(offsets));
        const IndexView<B> positions_view = context.indices(std::ssize(positions));
        from_host(offsets_view, offsets);
        from_host(positions_view, positions);
        const auto tokens = context.arena().template make<TokenId, 1>({std::ssize(batch.tokens)});
        B::Space::copy_from_host(tokens.data(), batch.tokens.data(), batch.tokens.size_bytes());
        trace.tokens = tokens;
        trace.rows = {offsets_view, positions_view, offsets, positions};
        const MatrixView<B> x = context.matrix(tokens.size(), config_.hidden_size);
        embedding_.embed(context, tokens, x);
        return x;
    }

    /// Final norm and, if it is wanted, the head.
    void leave(Context<B>& context, ConstMatrixView<B> x, const ForwardOptions& options,
               Trace<A, B>& trace) const {
        trace.normed = norm_.forward(context, x, trace.norm);
        trace.logits = {};
        if (options.computes_logits) {
            trace.logits = context.matrix(x.rows(), config_.vocab_size);
            embedding_.project(context, trace.normed, trace.logits);
        }
    }

    /// The last row of every sequence that is continued.
    IndexView<B> last_rows(Context<B>& context, const Batch& batch,
                           std::vector<Index>& last) const {
        last.clear();
        Index end = 0;
        for (const Index length : batch.lengths) {
            end += length;
            if (length > 0) {
                last.push_back(end - 1);
            }
        }
        const IndexView<B> rows = context.indices(std::ssize(last));
        from_host(rows, last);
        return rows;
    }

    B* backend_;
    ModelConfig config_;
    Options options_;
    Layout layout_;
    typename A::Router router_;
    typename A::Schedule schedule_;
    typename A::Cache cache_policy_;
    std::vector<detail::KeyUse> key_uses_ = {};
    Rotary<B> rotary_;
    Embedding<B> embedding_;
    std::vector<Block> blocks_;  // [physical layers]
    std::vector<Index> use_of_;  // [unrolled layers]
    RouterWeights router_weights_;
    InjectionWeights<A, B> injection_weights_;
    RmsNorm<B> norm_;
};

}  // namespace mor
