// SPDX-License-Identifier: Apache-2.0
#include <mor/core/reflect.hpp>

#include <doctest/doctest.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

using mor::Field;
using mor::nearest_name;

namespace {

struct Options {
    int depth = 3;
    double alpha = 0.5;
    static constexpr auto fields() {
        return std::tuple{Field{"depth", &Options::depth}, Field{"alpha", &Options::alpha}};
    }
};
struct Nothing {
    static constexpr auto fields() { return std::tuple{}; }
};
struct Unreflected {};

static_assert(mor::Reflected<Options>);
static_assert(mor::Reflected<Nothing>);
static_assert(!mor::Reflected<Unreflected>);

}  // namespace

TEST_CASE("fields are visited by name in the order of their declaration, and can be written") {
    Options options;
    std::string names;
    mor::visit_fields(options, [&](std::string_view name, auto& value) {
        names += std::string{name} + " ";
        value += 1;
    });
    CHECK(names == "depth alpha ");
    CHECK(options.depth == 4);
    CHECK(options.alpha == 1.5);
}

TEST_CASE("fields of a constant are visited read-only, an aggregate without fields not at all") {
    const Options options;
    int count = 0;
    mor::visit_fields(options, [&](std::string_view, auto& value) {
        static_assert(std::is_const_v<std::remove_reference_t<decltype(value)>>);
        ++count;
    });
    Nothing nothing;
    mor::visit_fields(nothing, [&](std::string_view, auto&) { ++count; });
    CHECK(count == 2);
}

TEST_CASE("the nearest name is the one with the fewest edits, the first of equals") {
    const std::vector<std::string> names{"hidden_size", "head_dim", "num_heads", "num_layers"};
    CHECK(nearest_name("hiden_size", names) == "hidden_size");
    CHECK(nearest_name("n_layers", names) == "num_layers");
    CHECK(nearest_name("head_dim", names) == "head_dim");
    CHECK(nearest_name("num_haeds", names) == "num_heads");
    CHECK(nearest_name("ab", {"aa", "bb", "ab c"}) == "aa");
    CHECK(nearest_name("", {"long", "a"}) == "a");
    CHECK(nearest_name("x", {""}).empty());
    CHECK(nearest_name("x", {}).empty());
}
