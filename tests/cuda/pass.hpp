// SPDX-License-Identifier: Apache-2.0
//
// One training pass of a model: its loss, the depths that it gave, and every gradient.
#pragma once

#include "unit/model/training_pass.hpp"

#include <string>
#include <utility>
#include <vector>

namespace mor::test {

template <class T>
struct Pass {
    double loss = 0;
    std::vector<Index> depths = {};
    std::vector<std::pair<std::string, std::vector<T>>> gradients = {};  // by name
};

template <class A, Backend B>
[[nodiscard]] Pass<typename B::Element> run_pass(Model<A, B>& model, const Sequences& sequences) {
    Context<B> context{model.backend()};
    Trace<A, B> trace;
    model.zero_gradients();
    Pass<typename B::Element> pass;
    pass.loss = training_pass(model, context, trace, sequences,
                              random_targets(sequences, model.config().vocab_size), 1,
                              {.training_step = 1});
    pass.depths = token_depths(trace);
    std::as_const(model).visit_parameters([&](const Parameter<B>& parameter) {
        pass.gradients.emplace_back(parameter.name(), to_host(parameter.gradient()));
    });
    return pass;
}

}  // namespace mor::test
