// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/reference/reference.hpp>
#include <mor/recursion/loss_terms.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

using Terms = mor::LossTerms<mor::Reference<double>>;

}  // namespace

TEST_CASE("a term of a router is one sum, by its name, and begins as zero") {
    Terms terms;
    CHECK(terms.to_host().empty());
    terms.slot("z", 0.5)[0] += 3;
    terms.slot("balancing", 0.1)[0] += 1;
    terms.slot("z", 0.5)[0] += 4;
    CHECK(terms.size() == 2);
    const auto values = terms.to_host();
    REQUIRE(values.size() == 2);
    CHECK(values[0].name == "z");
    CHECK(values[0].value == 7);
    CHECK(values[0].coefficient == 0.5);
    CHECK(values[1].name == "balancing");
    CHECK(values[1].value == 1);

    terms.clear();
    CHECK(terms.to_host().empty());
    CHECK(terms.slot("balancing", 0.2)[0] == 0);
    CHECK(terms.to_host().at(0).coefficient == 0.2);
}

TEST_CASE("terms lie side by side and stay where they are, and there is a limit to them") {
    std::vector<std::string> names;
    for (mor::Index i = 0; i <= Terms::most_terms; ++i) {
        names.push_back("loss" + std::to_string(i));
    }
    Terms terms;
    const double* const first = terms.slot(names[0], 1).data();
    for (mor::Index i = 0; i < Terms::most_terms; ++i) {
        const auto slot = terms.slot(names[static_cast<std::size_t>(i)], 1);
        CHECK(slot.size() == 1);
        CHECK(slot.data() == first + i);
    }
    CHECK_THROWS_WITH_AS((void)terms.slot(names.back(), 1),
                         "mor::LossTerms: loss32 would be one more than 32 terms",
                         mor::ConfigError);
    CHECK(terms.slot(names[3], 1).data() == first + 3);
}
