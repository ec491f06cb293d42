// SPDX-License-Identifier: Apache-2.0
//
// Wrong input is refused with the right exception and with both numbers.
#include <mor/backends/reference/reference.hpp>

#include <doctest/doctest.h>
#include <unit/model/small_model.hpp>

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::ConfigError;
using mor::Index;
using mor::ModelConfig;
using mor::ShapeError;
using mor::TokenId;

using B = mor::Reference<float>;
using A = mor::DefaultArchitecture;

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Fixture {
    B backend;
    mor::Model<A, B> model{backend, small_config<A>(), small_options<A>(), 3};
    mor::Context<B> context{backend};
    mor::Trace<A, B> trace;
    mor::KeyValueCache<B> cache = model.make_cache(2);

    std::function<void()> forward(std::vector<TokenId> tokens, std::vector<Index> lengths) {
        return [=, this] { model.forward(context, {tokens, lengths}, {}, trace); };
    }
    std::function<void()> extend(std::vector<TokenId> tokens, std::vector<Index> lengths) {
        return [=, this] { model.extend(context, {tokens, lengths}, cache, trace); };
    }
};

std::function<void()> constructing(const std::function<void(ModelConfig&)>& change) {
    return [=] {
        B backend;
        ModelConfig config = small_config<A>();
        change(config);
        const mor::Model<A, B> model{backend, config, small_options<A>()};
    };
}

}  // namespace

TEST_CASE("a token outside the vocabulary is refused") {
    Fixture f;
    CHECK(throws_with<ShapeError>(f.forward({1, 29}, {2}), {"token 29", "vocabulary of 29"}));
    CHECK(throws_with<ShapeError>(f.forward({1, -4}, {2}), {"token -4", "vocabulary of 29"}));
    CHECK(throws_with<ShapeError>(f.extend({1, 99}, {1, 1}), {"token 99", "vocabulary of 29"}));
    CHECK_NOTHROW(f.forward({0, 28}, {2})());
}

TEST_CASE("lengths that do not add up to the tokens are refused") {
    Fixture f;
    CHECK(throws_with<ShapeError>(f.forward({1, 2, 3}, {1, 3}), {"3 tokens", "add up to 4"}));
    CHECK(throws_with<ShapeError>(f.forward({1, 2, 3}, {}), {"3 tokens", "add up to 0"}));
    CHECK(throws_with<ShapeError>(f.forward({1, 2}, {3, -1}), {"sequence 1", "length -1"}));
    CHECK(throws_with<ShapeError>(f.extend({1, 2}, {1, 2}), {"2 tokens", "add up to 3"}));
    CHECK(throws_with<ShapeError>(f.extend({1, 2}, {2}), {"1 lengths", "2 sequences"}));
}

TEST_CASE("a sequence longer than max_positions is refused") {
    Fixture f;
    CHECK(throws_with<ShapeError>(f.forward(std::vector<TokenId>(66, 1), {1, 65}),
                                  {"sequence 1", "position 65", "max_positions is 64"}));
    CHECK_NOTHROW(f.forward(std::vector<TokenId>(64, 1), {64})());

    f.extend(std::vector<TokenId>(61, 1), {60, 1})();
    CHECK(throws_with<ShapeError>(f.extend(std::vector<TokenId>(5, 1), {5, 0}),
                                  {"sequence 0", "position 65", "max_positions is 64"}));
    CHECK(f.cache.length(0) == 60);  // refused before anything was stored
    CHECK_NOTHROW(f.extend(std::vector<TokenId>(4, 1), {4, 0})());
    CHECK(f.cache.length(0) == 64);
}

TEST_CASE("a refused batch does no harm to the next") {
    Fixture f;
    f.forward({1, 2, 3}, {3})();
    const auto before = mor::to_host(f.trace.logits);
    CHECK_THROWS_AS(f.forward({1, 2, 99}, {3})(), ShapeError);
    f.forward({1, 2, 3}, {3})();
    CHECK(mor::to_host(f.trace.logits) == before);
}

TEST_CASE("a cache without sequences is refused") {
    Fixture f;
    CHECK(throws_with<ShapeError>([&] { static_cast<void>(f.model.make_cache(0)); },
                                  {"num_sequences is 0", "at least 1"}));
}

TEST_CASE("an impossible configuration is refused") {
    using Change = std::function<void(ModelConfig&)>;
    const std::vector<std::pair<std::vector<std::string>, Change>> cases{
        {{"vocab_size is 0", "at least 1"}, [](ModelConfig& c) { c.vocab_size = 0; }},
        {{"hidden_size is -8", "at least 1"}, [](ModelConfig& c) { c.hidden_size = -8; }},
        {{"intermediate_size is 0"}, [](ModelConfig& c) { c.intermediate_size = 0; }},
        {{"num_layers is 0"}, [](ModelConfig& c) { c.num_layers = 0; }},
        {{"num_heads is 0"}, [](ModelConfig& c) { c.num_heads = 0; }},
        {{"num_kv_heads is 0"}, [](ModelConfig& c) { c.num_kv_heads = 0; }},
        {{"head_dim is 0"}, [](ModelConfig& c) { c.head_dim = 0; }},
        {{"max_positions is -1"}, [](ModelConfig& c) { c.max_positions = -1; }},
        {{"num_heads 4", "num_kv_heads 3"}, [](ModelConfig& c) { c.num_kv_heads = 3; }},
        {{"head_dim is 5", "even"}, [](ModelConfig& c) { c.head_dim = 5; }},
        {{"rope_theta is inf"}, [](ModelConfig& c) { c.rope_theta = infinity; }},
        {{"rms_norm_epsilon is inf"}, [](ModelConfig& c) { c.rms_norm_epsilon = infinity; }},
        {{"initializer_range is inf"}, [](ModelConfig& c) { c.initializer_range = infinity; }},
        {{"rope_theta is 0"}, [](ModelConfig& c) { c.rope_theta = 0; }},
        {{"rms_norm_epsilon is -1"}, [](ModelConfig& c) { c.rms_norm_epsilon = -1; }},
        {{"initializer_range is -0.5"}, [](ModelConfig& c) { c.initializer_range = -0.5; }},
        {{"num_layers 9", "8 and 11"}, [](ModelConfig& c) { c.num_layers = 9; }},
    };
    for (const auto& [parts, change] : cases) {
        CAPTURE(parts.front());
        CHECK(throws_with<ConfigError>(constructing(change), parts));
    }
    CHECK_NOTHROW(constructing([](ModelConfig&) {})());
}

TEST_CASE("impossible options are refused by the model that is given them") {
    const auto constructing_with = [](const std::function<void(mor::ArchitectureOptions<A>&)>& f) {
        return [=] {
            B backend;
            auto options = small_options<A>();
            f(options);
            const mor::Model<A, B> model{backend, small_config<A>(), options};
        };
    };
    CHECK(throws_with<ConfigError>(constructing_with([](auto& o) { o.router.alpha = -1; }),
                                   {"alpha is -1"}));
    CHECK(throws_with<ConfigError>(constructing_with([](auto& o) { o.sharing.num_recursions = 4; }),
                                   {"num_recursions 4", "num_layers 8", "6 and 10"}));
    CHECK(throws_with<ConfigError>(constructing_with([](auto& o) {
                                       o.schedule.capacities = {0.5, 1.0, 0.5};
                                   }),
                                   {"1 after 0.5"}));
}

namespace {

/// Whatever it is told to say; in the training steps from `from` on.
struct AnySchedule {
    static constexpr std::string_view name = "test.any";
    struct Options {
        std::array<double, 3> capacities{1, 1, 1};
        Index from = 0;
    };
    explicit AnySchedule(const Options& options) : options_{options} {}
    [[nodiscard]] double capacity(Index step, Index /*num_steps*/, Index training_step) const {
        return training_step < options_.from ? 1.0
                                             : options_.capacities[static_cast<std::size_t>(step)];
    }

private:
    Options options_;
};
struct Scheduled : mor::MoRExpert<> {
    using Schedule = AnySchedule;
};

/// Lets the layers after the recursion read the last step's keys, which not every row has.
struct CodaReads {
    static constexpr std::string_view name = "test.coda_reads";
    struct Options {};
    explicit CodaReads(const Options& /*options*/) {}
    [[nodiscard]] static Index key_layer(const mor::Layout& layout, Index layer) {
        return layer >= layout.end_of_recursion() ? layout.end_of_recursion() - 1 : layer;
    }
};

/// Hybrid, but for the first step, which runs for the rows that the router keeps.
struct ReplacesSome : mor::HybridCache {
    static constexpr std::string_view name = "test.replaces_some";
    static constexpr bool shares_first_step = false;
    using mor::HybridCache::HybridCache;
};

}  // namespace

TEST_CASE("a schedule of one's own is checked when a model is made of it") {
    const auto constructing_with = [](const AnySchedule::Options& options) {
        return [=] {
            B backend;
            const mor::Model<Scheduled, B> model{
                backend, small_config<Scheduled>(), {.schedule = options}};
        };
    };
    CHECK_NOTHROW(constructing_with({})());
    for (const double wrong : {0.0, -0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
        CHECK(throws_with<ConfigError>(constructing_with({.capacities = {wrong, wrong, wrong}}),
                                       {"schedule test.any", "the capacity of step 0"}));
    }
    CHECK(throws_with<ConfigError>(constructing_with({.capacities = {0.5, 0.6, 0.5}}),
                                   {"step 1 is 0.6", "at most 0.5", "the step before"}));
    // What shows later only is an error then, not a wrong pass.
    B backend;
    mor::Model<Scheduled, B> model{backend,
                                   small_config<Scheduled>(),
                                   {.schedule = {.capacities = {1.5, 1.5, 1.5}, .from = 4}}};
    mor::Context<B> context{backend};
    mor::Trace<Scheduled, B> trace;
    const std::vector<TokenId> tokens{1, 2, 3};
    const std::vector<Index> lengths{3};
    CHECK(throws_with<ConfigError>(
        [&] {
            model.forward(context, {tokens, lengths}, {.training_step = 4}, trace);
        },
        {"the capacity of step 0 is 1.5"}));
    mor::Model<Scheduled, B> growing{backend,
                                     small_config<Scheduled>(),
                                     {.schedule = {.capacities = {0.5, 0.6, 0.5}, .from = 4}}};
    CHECK(throws_with<ConfigError>(
        [&] {
            growing.forward(context, {tokens, lengths}, {.training_step = 4}, trace);
        },
        {"the capacity of step 1 is 0.6", "at most 0.5"}));
}

TEST_CASE_TEMPLATE("capacities for a model without steps are refused", Plain, mor::Vanilla,
                   mor::Recursive<mor::Sequence>) {
    B backend;
    CHECK(throws_with<ConfigError>(
        [&] {
            const mor::Model<Plain, B> model{
                backend, small_config<Plain>(), {.schedule = {.capacities = {1.0, 0.5, 0.3}}}};
        },
        {"3 capacities for 0 recursion steps"}));
}

TEST_CASE("as many capacities as steps, or a model is not made") {
    B backend;
    CHECK(throws_with<ConfigError>(
        [&] {
            const mor::Model<A, B> model{
                backend, small_config<A>(), {.schedule = {.capacities = {1.0, 0.5}}}};
        },
        {"2 capacities for 3 recursion steps"}));
}

TEST_CASE("keys are replaced only where every row has some") {
    // Without the first step for all, step 0 may have seen fewer rows than the pass has.
    struct Routed : mor::MoRExpert<mor::MiddleCycle, ReplacesSome> {};
    struct Plain : mor::Recursive<mor::MiddleCycle, ReplacesSome> {};
    B backend;
    CHECK(throws_with<ConfigError>(
        [&] {
            const mor::Model<Routed, B> model{backend, small_config<Routed>()};
        },
        {"cache policy test.replaces_some, layer 3",
         "the layer whose keys are replaced has seen every row"}));
    CHECK_NOTHROW(mor::Model<Plain, B>{backend, small_config<Plain>()});
}

TEST_CASE("a cache policy that sends rows where their keys are not is refused") {
    struct Routed : mor::MoRExpert<mor::MiddleCycle, CodaReads> {};
    struct Plain : mor::Recursive<mor::MiddleCycle, CodaReads> {};
    B backend;
    CHECK(throws_with<ConfigError>(
        [&] {
            const mor::Model<Routed, B> model{backend, small_config<Routed>()};
        },
        {"cache policy test.coda_reads, layer 7", "with layer 6"}));
    CHECK_NOTHROW(mor::Model<Plain, B>{backend, small_config<Plain>()});
}
