// SPDX-License-Identifier: Apache-2.0
//
// Weights used in several places are one storage, and their gradient is the sum over the places.
#include <mor/backends/cpu/cpu.hpp>

#include <doctest/doctest.h>
#include <unit/model/training_pass.hpp>

#include <numeric>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace mor::test;
using mor::Index;

using Cpu = mor::Cpu<double>;
using Values = std::vector<double>;

/// The same unrolled stack and the same steps as S, but every layer has weights of its own.
template <mor::SharingPolicy S>
class Unshared {
public:
    static constexpr std::string_view name = "test.unshared";
    static constexpr bool has_steps = S::has_steps;
    using Options = typename S::Options;

    explicit Unshared(const Options& options) : options_{options} {}

    [[nodiscard]] mor::Layout layout(Index num_layers) const {
        mor::Layout layout = S{options_}.layout(num_layers);
        std::iota(layout.physical.begin(), layout.physical.end(), Index{0});
        return layout;
    }

private:
    Options options_;
};

template <class A>
struct WithoutSharing : A {
    using Sharing = Unshared<typename A::Sharing>;
};

template <class A>
void copy_values(mor::Model<A, Cpu>& to, const std::string& name, const Values& values) {
    mor::Parameter<Cpu>* const parameter = find_parameter(to, name);
    REQUIRE(parameter != nullptr);
    mor::from_host(parameter->value(), values);
}

/// The name of a parameter in another layer: "model.layers.3.mlp..." for layer 5 of the rest.
std::string in_layer(const std::string& name, Index layer) {
    const std::string prefix = "model.layers.";
    return prefix + std::to_string(layer) + name.substr(name.find('.', prefix.size()));
}

Index layer_of(const std::string& name) {
    const std::string prefix = "model.layers.";
    return name.starts_with(prefix) ? std::stol(name.substr(prefix.size())) : -1;
}

double largest(const Values& values) { return max_difference(values, Values(values.size(), 0.0)); }

void check_close(const Values& actual, const Values& expected) {
    CHECK(max_difference(actual, expected) <= 1e-12 * (1e-3 + largest(expected)));
}

}  // namespace

TEST_CASE_TEMPLATE("a tied head is the embedding table, and its gradient the sum of both uses", A,
                   MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    mor::ModelConfig config = small_config<A>();
    mor::Model<A, Cpu> tied{cpu, config, small_options<A>(), 3};
    config.tie_embeddings = false;
    mor::Model<A, Cpu> untied{cpu, config, small_options<A>(), 4};

    CHECK(tied.embedding().is_tied());
    CHECK(find_parameter(tied, "lm_head.weight") == nullptr);
    CHECK_FALSE(untied.embedding().is_tied());
    CHECK(untied.num_parameters() == tied.num_parameters() + 29 * 16);

    tied.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        copy_values(untied, parameter.name(), mor::to_host(parameter.value()));
    });
    copy_values(untied, "lm_head.weight",
                mor::to_host(find_parameter(tied, "model.embed_tokens.weight")->value()));

    const Sequences sequences = random_sequences({12, 7}, 29, 5);
    const auto targets = random_targets(sequences, 29);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    const double tied_loss = training_pass(tied, context, trace, sequences, targets);
    CHECK(training_pass(untied, context, trace, sequences, targets) == tied_loss);

    Values sum = mor::to_host(find_parameter(untied, "model.embed_tokens.weight")->gradient());
    const Values head = mor::to_host(find_parameter(untied, "lm_head.weight")->gradient());
    CHECK(largest(sum) > 0);
    CHECK(largest(head) > 0);
    for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] += head[i];
    }
    check_close(mor::to_host(find_parameter(tied, "model.embed_tokens.weight")->gradient()), sum);
}

TEST_CASE_TEMPLATE("every parameter is visited once, under a name of its own", A,
                   MOR_ALL_ARCHITECTURES) {
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> model{cpu, small_config<A>(), small_options<A>(), 3};
    std::set<std::string> names;
    std::set<const double*> storages;
    std::set<Index> layers;
    Index count = 0;
    Index size = 0;
    model.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        names.insert(parameter.name());
        storages.insert(parameter.value().data());
        layers.insert(layer_of(parameter.name()));
        ++count;
        size += parameter.size();
    });
    layers.erase(-1);
    CHECK(std::ssize(names) == count);
    CHECK(std::ssize(storages) == count);
    CHECK(std::ssize(layers) == model.layout().num_physical());
    CHECK(size == model.num_parameters());
}

TEST_CASE_TEMPLATE("the gradient of a shared layer is the sum over an unshared copy", A,
                   mor::Recursive<mor::Sequence>, mor::Recursive<mor::MiddleSequence>,
                   mor::Recursive<mor::Cycle>, mor::Recursive<mor::MiddleCycle>,
                   mor::MoRExpert<mor::Cycle>, mor::MoRExpert<mor::MiddleCycle>,
                   mor::MoRToken<mor::Cycle>, mor::MoRToken<mor::MiddleCycle>) {
    using U = WithoutSharing<A>;
    Cpu cpu{{.threads = 1}};
    mor::Model<A, Cpu> shared{cpu, small_config<A>(), small_options<A>(), 3};
    mor::ArchitectureOptions<U> options{};
    options.sharing = shared.options().sharing;
    options.router = shared.options().router;
    mor::Model<U, Cpu> unshared{cpu, small_config<A>(), options, 4};
    const auto& physical = shared.layout().physical;
    REQUIRE(unshared.layout().num_physical() == std::ssize(physical));

    unshared.visit_parameters([&](mor::Parameter<Cpu>& parameter) {
        const Index layer = layer_of(parameter.name());
        const std::string name =
            layer < 0 ? parameter.name()
                      : in_layer(parameter.name(), physical[static_cast<std::size_t>(layer)]);
        mor::from_host(parameter.value(), mor::to_host(find_parameter(shared, name)->value()));
    });

    const Sequences sequences = random_sequences({12, 7}, 29, 5);
    const auto targets = random_targets(sequences, 29);
    mor::Context<Cpu> context{cpu};
    mor::Trace<A, Cpu> trace;
    mor::Trace<U, Cpu> unshared_trace;
    const double loss = training_pass(shared, context, trace, sequences, targets);
    CHECK(training_pass(unshared, context, unshared_trace, sequences, targets) == loss);

    shared.visit_parameters([&](const mor::Parameter<Cpu>& parameter) {
        CAPTURE(parameter.name());
        Values sum(static_cast<std::size_t>(parameter.size()), 0.0);
        const Index owner = layer_of(parameter.name());
        for (Index layer = 0; layer < std::ssize(physical); ++layer) {
            if (owner >= 0 && physical[static_cast<std::size_t>(layer)] != owner) {
                continue;
            }
            const std::string name =
                owner < 0 ? parameter.name() : in_layer(parameter.name(), layer);
            const Values part = mor::to_host(find_parameter(unshared, name)->gradient());
            for (std::size_t i = 0; i < sum.size(); ++i) {
                sum[i] += part[i];
            }
            if (owner < 0) {
                break;
            }
        }
        CHECK(largest(sum) > 0);
        check_close(mor::to_host(parameter.gradient()), sum);
    });
}
