// SPDX-License-Identifier: Apache-2.0
//
// Conformance of a backend: small models computed on it and on another that is known to be right.
#pragma once

#include <mor/cache/hybrid.hpp>
#include <mor/model/presets.hpp>
#include <mor/testing/conformance.hpp>
#include <mor/testing/tolerance.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mor::testing {

namespace detail {

template <class T>
[[nodiscard]] std::vector<double> as_doubles(const std::vector<T>& values) {
    return {values.begin(), values.end()};
}

inline void require_close(Violations& violations, const std::vector<double>& actual,
                          const std::vector<double>& expected, double tolerance,
                          const std::string& what) {
    const View<const double, 1> found{actual.data(), {std::ssize(actual)}};
    const View<const double, 1> right{expected.data(), {std::ssize(expected)}};
    require(violations, mismatch(found, right, tolerance).empty(), what + " must be the oracle's");
}

template <class A, Backend B, Backend Oracle>
void check_model_on(B& backend, Oracle& oracle, double tolerance, Violations& violations) {
    ModelConfig sizes = small_sizes;
    sizes.num_layers = 3 + (std::string_view{A::Sharing::name} == "middle_cycle" ? 2 : 0);
    Model<A, B> model{backend, sizes, {}, 1};
    Model<A, Oracle> right{oracle, sizes, {}, 1};
    std::vector<std::vector<double>> values;
    model.visit_parameters([&](const Parameter<B>& parameter) {
        values.push_back(as_doubles(to_host(parameter.value())));
    });
    std::size_t next = 0;
    right.visit_parameters(
        [&](Parameter<Oracle>& parameter) { fill_from(parameter.value(), values[next++]); });

    const SmallBatch sample{1};
    const auto run = [&]<class Side>(Model<A, Side>& side) {
        Context<Side> context{side.backend()};
        Trace<A, Side> trace;
        side.zero_gradients();
        side.forward(context, sample.batch(), {.training_step = 1}, trace);
        std::vector<std::vector<double>> results{as_doubles(to_host(trace.logits))};
        backward(side, context, trace, trace.logits);
        side.visit_parameters([&](const Parameter<Side>& parameter) {
            results.push_back(as_doubles(to_host(parameter.gradient())));
        });
        return results;
    };
    const auto found = run(model);
    const auto expected = run(right);
    require_close(violations, found[0], expected[0], tolerance, "logits");
    next = 1;
    model.visit_parameters([&](const Parameter<B>& parameter) {
        require_close(violations, found[next], expected[next], tolerance,
                      "the gradient of " + parameter.name());
        ++next;
    });
    check_decoding(model, sample, tolerance, violations);
}

}  // namespace detail

/// Forward, backward and decoding of small models on B, against `oracle`, for example
/// mor::Reference<double>. Tests every kernel that the published architectures use; a backend's
/// own tests should try each with odd sizes. `tolerance` is relative to the largest magnitude of a
/// tensor; the default is for backends that round nothing but their elements.
template <Backend B, Backend Oracle>
[[nodiscard]] Violations check_backend(B& backend, Oracle& oracle,
                                       double tolerance = std::is_same_v<typename B::Element, float>
                                                              ? 1e-4
                                                              : 1e-9) {
    Violations violations;
    detail::check_model_on<Vanilla>(backend, oracle, tolerance, violations);
    detail::check_model_on<MoRExpert<Cycle>>(backend, oracle, tolerance, violations);
    detail::check_model_on<MoRExpert<Cycle, HybridCache>>(backend, oracle, tolerance, violations);
    detail::check_model_on<MoRToken<MiddleCycle>>(backend, oracle, tolerance, violations);
    return violations;
}

}  // namespace mor::testing
