// SPDX-License-Identifier: Apache-2.0
#include <mor/backends/reference/reference.hpp>
#include <mor/core/error.hpp>
#include <mor/core/parameter.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <type_traits>
#include <vector>

namespace {

/// Counts how often it is written.
struct Counted {
    int& written;
    friend std::ostream& operator<<(std::ostream& out, const Counted& counted) {
        ++counted.written;
        return out << "counted";
    }
};

static_assert(std::is_base_of_v<std::runtime_error, mor::Error>);
static_assert(std::is_base_of_v<mor::Error, mor::ShapeError>);
static_assert(std::is_base_of_v<mor::Error, mor::ConfigError>);
static_assert(std::is_base_of_v<mor::Error, mor::IoError>);
static_assert(std::is_base_of_v<mor::Error, mor::NumericError>);

}  // namespace

TEST_CASE("the parts of a message are written one after another") {
    CHECK_THROWS_WITH_AS(mor::fail<mor::IoError>("file", ": byte ", 7, ", ", 0.5),
                         "file: byte 7, 0.5", mor::IoError);
    CHECK_THROWS_WITH_AS(mor::check<mor::ShapeError>(false, 1, " is not ", 2), "1 is not 2",
                         mor::ShapeError);
}

TEST_CASE("a check that holds writes no message") {
    int written = 0;
    mor::check<mor::ConfigError>(true, Counted{written});
    CHECK(written == 0);
    CHECK_THROWS_AS(mor::check<mor::ConfigError>(false, Counted{written}), mor::ConfigError);
    CHECK(written == 1);
}

TEST_CASE("a parameter of an impossible shape is refused") {
    using Parameter = mor::Parameter<mor::Reference<double>>;
    const auto make = [](std::vector<mor::Index> shape) {
        const Parameter parameter{"p", std::move(shape), mor::WeightDecay::yes};
    };
    CHECK_THROWS_AS(make({3, 0}), mor::ShapeError);
    CHECK_THROWS_AS(make({-1}), mor::ShapeError);
    const mor::Index huge = mor::Index{1} << 40;
    CHECK_THROWS_AS(make({huge, huge}), mor::ShapeError);
    CHECK_THROWS_AS(make({huge, huge / 4096}), mor::ShapeError);
    Parameter vector{"p", {6}, mor::WeightDecay::no};
    CHECK_THROWS_WITH_AS((void)vector.value_matrix(), "p: has rank 1, expected 2", mor::ShapeError);
}
