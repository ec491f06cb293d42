// SPDX-License-Identifier: Apache-2.0
//
// A schedule is asked for a step, the number of steps and the training step.
// expected-error: error: .*mor: SchedulePolicy: Schedule needs .*'double capacity\(Index step, .*\)
//     const'
#include <mor/backends/reference/reference.hpp>
#include <mor/model/model.hpp>
#include <mor/model/presets.hpp>

#include <string_view>

class Half {
public:
    static constexpr std::string_view name = "acme.half";
    struct Options {};
    explicit Half(const Options& /*options*/) {}

    [[nodiscard]] double capacity(mor::Index step) const { return step == 0 ? 1.0 : 0.5; }
};

struct Wrong : mor::DefaultArchitecture {
    using Schedule = Half;
};

int main() {
    mor::Reference<float> backend;
    const mor::Model<Wrong, mor::Reference<float>> model{backend};
    return model.num_parameters() > 0 ? 0 : 1;
}
