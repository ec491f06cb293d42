// SPDX-License-Identifier: Apache-2.0
//
// No relative but their baseline: no token takes any step, so embedding and head are all there is.
// What it reaches, a relative whose layers learn nothing reaches, too; it must miss their bounds.
#include "relative.hpp"

#include <string_view>
#include <tuple>

struct NoStep {
    static constexpr std::string_view name = "example.no_step";
    using Merge = mor::Replace;
    struct Options {
        static constexpr auto fields() { return std::tuple{}; }
    };
    explicit NoStep(const Options& /*options*/ = {}) {}
    template <mor::Backend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& /*step*/) const {
        return 0;
    }
};

struct NoLayers : mor::DefaultArchitecture {
    using Sharing = mor::Cycle;
    using Router = NoStep;
};

int main(int argc, char** argv) {
    // The bound is the widest of the relatives'.
    return relatives::run<NoLayers>(argc, argv, 2.1, relatives::small(3));
}
