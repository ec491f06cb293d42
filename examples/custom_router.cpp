// SPDX-License-Identifier: Apache-2.0
//
// A router of one's own: a token recurses again for as long as the last step still changed it.
#include <mor/checkpoint.hpp>
#include <mor/mor.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <tuple>

// --- the router: 35 lines -------------------------------------------------------------------
class ConvergenceRouter {
public:
    static constexpr std::string_view name = "example.convergence";  // in config.json
    static constexpr bool uses_previous = true;                      // asks for step.previous
    using Merge = mor::Replace;                                      // h = f(h) for kept tokens
    struct Options {
        double threshold = 0.3;  // relative change; tokens that moved more go on
        static constexpr auto fields() {
            return std::tuple{mor::Field{"threshold", &Options::threshold}};
        }
    };

    explicit ConvergenceRouter(const Options& options) : options_{options} {}

    // Writes the candidates that take the step, ascending, and returns how many.
    template <mor::HostBackend B>
    mor::Index select(mor::Context<B>& /*context*/, const mor::StepView<B>& step) const {
        mor::Index kept = 0;
        for (mor::Index i = 0; i < step.num_candidates(); ++i) {
            double change = 0;
            double size = 0;
            for (mor::Index j = 0; step.step > 0 && j < step.hidden.columns(); ++j) {
                change += std::pow(step.hidden(i, j) - step.previous(i, j), 2);
                size += std::pow(step.previous(i, j), 2);
            }
            if (step.must_keep_all() || step.step == 0 ||
                change > options_.threshold * options_.threshold * size) {
                step.kept[kept++] = i;
            }
        }
        return kept;
    }

private:
    Options options_;
};
// --------------------------------------------------------------------------------------------

struct ConvergenceMoR : mor::DefaultArchitecture {
    using Router = ConvergenceRouter;
};

// Trains on the text named by the first argument for as many steps as the second says.
int main(int argc, char** argv) try {
    const long long steps = argc == 3 ? std::atoll(argv[2]) : 0;
    if (steps < 1) {
        std::fprintf(stderr, "usage: custom_router TEXT STEPS\n");
        return 2;
    }
    mor::Cpu<float> cpu;
    mor::Model<ConvergenceMoR, mor::Cpu<float>> model{
        cpu, {.hidden_size = 64, .intermediate_size = 192}, {.router = {.threshold = 0.5}}};
    const mor::io::ByteCorpus text{argv[1]};
    const mor::DataSplit data = mor::split(text, text.size() / 10, 128);
    mor::Trainer trainer{model, text, data.training, {.steps = steps, .sequence = 128}};
    double first = 0;
    double last = 0;
    trainer.run([&](const mor::StepReport& report) {
        last = report.loss;
        first = report.step == 1 ? last : first;
        std::printf("step %3lld  loss %.3f  active", static_cast<long long>(report.step),
                    report.loss);
        for (const double share : report.active_share) {
            std::printf(" %3.0f %%", 100 * share);
        }
        std::printf("\n");
    });
    return last < first ? 0 : 1;  // as a test: it learns
} catch (const mor::Error& error) {
    std::fprintf(stderr, "custom_router: %s\n", error.what());
    return 1;
}
