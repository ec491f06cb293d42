// SPDX-License-Identifier: Apache-2.0

#include "temp_directory.hpp"
#include <mor/core/random.hpp>
#include <mor/core/types.hpp>
#include <mor/io/json.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

using mor::ConfigError;
using mor::Field;
using mor::IoError;
using mor::test::contains;
using mor::test::message_of;
using mor::test::TempDirectory;

namespace sample {

enum class Fruit { apple, pear };
constexpr std::array<Fruit, 2> enum_values(Fruit) { return {Fruit::apple, Fruit::pear}; }
constexpr std::string_view to_string(Fruit fruit) {
    return fruit == Fruit::apple ? "apple" : "pear";
}

struct Inner {
    double alpha = 0.5;
    float beta = 0.1F;

    static constexpr auto fields() {
        return std::tuple{Field{"alpha", &Inner::alpha}, Field{"beta", &Inner::beta}};
    }
};

struct Options {
    bool tied = false;
    mor::Index width = 7;
    int count = -3;
    std::int8_t small = 1;
    std::uint64_t seed = 0;
    std::string title = "none";
    Fruit fruit = Fruit::apple;
    std::vector<double> capacities{1.0, 0.5};
    std::vector<bool> flags;
    std::vector<Inner> parts;
    Inner inner;

    static constexpr auto fields() {
        return std::tuple{
            Field{"tied", &Options::tied},   Field{"width", &Options::width},
            Field{"count", &Options::count}, Field{"small", &Options::small},
            Field{"seed", &Options::seed},   Field{"title", &Options::title},
            Field{"fruit", &Options::fruit}, Field{"capacities", &Options::capacities},
            Field{"flags", &Options::flags}, Field{"parts", &Options::parts},
            Field{"inner", &Options::inner}};
    }
};

struct Nothing {
    static constexpr auto fields() { return std::tuple{}; }
};

}  // namespace sample

namespace {

std::string message_of_reading(std::string_view text) {
    return message_of<ConfigError>([&] {
        sample::Options options;
        mor::io::read_fields(nlohmann::json::parse(text), options, "config");
    });
}

template <class T>
T round_trip(const T& options) {
    T read;
    mor::io::read_fields(nlohmann::json::parse(mor::io::to_json(options).dump()), read, "config");
    return read;
}

}  // namespace

TEST_CASE("options are written in the order of their fields") {
    CHECK(mor::io::to_json(sample::Options{}).dump() ==
          R"({"tied":false,"width":7,"count":-3,"small":1,"seed":0,"title":"none",)"
          R"("fruit":"apple","capacities":[1.0,0.5],"flags":[],"parts":[],)"
          R"("inner":{"alpha":0.5,"beta":0.1}})");
    CHECK(mor::io::to_json(sample::Nothing{}).dump() == "{}");
}

TEST_CASE("options come back from JSON as they were") {
    const sample::Options options{.tied = true,
                                  .width = std::numeric_limits<mor::Index>::min(),
                                  .count = std::numeric_limits<int>::max(),
                                  .small = -128,
                                  .seed = std::numeric_limits<std::uint64_t>::max(),
                                  .title = "quote \" and \xC3\xA9",
                                  .fruit = sample::Fruit::pear,
                                  .capacities = {},
                                  .flags = {true, false},
                                  .parts = {{.alpha = 2.5}, {.beta = 3.0F}},
                                  .inner = {.alpha = -0.0, .beta = 0x1.0p-149F}};
    const auto read = round_trip(options);
    CHECK(read.tied);
    CHECK(read.width == options.width);
    CHECK(read.count == options.count);
    CHECK(read.small == options.small);
    CHECK(read.seed == options.seed);
    CHECK(read.title == options.title);
    CHECK(read.fruit == options.fruit);
    CHECK(read.capacities.empty());
    CHECK(read.flags == options.flags);
    REQUIRE(read.parts.size() == 2);
    CHECK(read.parts[0].alpha == 2.5);
    CHECK(read.parts[1].beta == 3.0F);
    CHECK(std::signbit(read.inner.alpha));
    CHECK(read.inner.beta == options.inner.beta);
}

TEST_CASE("every double and float comes back with the same bits") {
    mor::Random random{1};
    for (int i = 0; i < 2'000; ++i) {
        const auto bits = random.bits();
        const auto alpha = std::bit_cast<double>(bits);
        const auto beta = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits() >> 32));
        if (!std::isfinite(alpha) || !std::isfinite(beta)) {
            continue;
        }
        const auto read = round_trip(sample::Inner{alpha, beta});
        REQUIRE(std::bit_cast<std::uint64_t>(read.alpha) == bits);
        REQUIRE(std::bit_cast<std::uint32_t>(read.beta) == std::bit_cast<std::uint32_t>(beta));
    }
}

TEST_CASE("missing keys keep the default and whole numbers are numbers") {
    sample::Options options;
    options.title = "kept";
    mor::io::read_fields(nlohmann::json::parse(R"({"width": 9, "inner": {"alpha": 2}})"), options,
                         "config");
    CHECK(options.width == 9);
    CHECK(options.title == "kept");
    CHECK(options.inner.alpha == 2.0);
    CHECK(options.inner.beta == 0.1F);
}

TEST_CASE("an unknown key is refused with the nearest known one") {
    CHECK(message_of_reading(R"({"widht": 9})") ==
          "config: unknown key 'widht'; did you mean 'width'?");
    CHECK(message_of_reading(R"({"inner": {"alfa": 1}})") ==
          "config.inner: unknown key 'alfa'; did you mean 'alpha'?");
    CHECK(message_of<ConfigError>([] {
              sample::Nothing nothing;
              mor::io::read_fields(nlohmann::json::parse(R"({"a": 1})"), nothing, "config");
          }) == "config: unknown key 'a'");
}

TEST_CASE("a value of the wrong kind is refused with its place, what it is and what it should be") {
    CHECK(message_of_reading("[]") == "config: expected an object, found an array");
    CHECK(message_of_reading(R"({"tied": 1})") == "config.tied: expected true or false, found 1");
    CHECK(message_of_reading(R"({"width": 1.0})") ==
          "config.width: expected an integer, found 1.0");
    CHECK(message_of_reading(R"({"width": true})") ==
          "config.width: expected an integer, found true");
    CHECK(message_of_reading(R"({"title": null})") ==
          "config.title: expected a string, found null");
    CHECK(message_of_reading(R"({"capacities": 1})") ==
          "config.capacities: expected an array, found 1");
    CHECK(message_of_reading(R"({"capacities": [1, "x"]})") ==
          "config.capacities[1]: expected a number, found \"x\"");
    CHECK(message_of_reading(R"({"parts": [{"beta": {}}]})") ==
          "config.parts[0].beta: expected a number, found an object");
    CHECK(message_of_reading(R"({"inner": 3})") == "config.inner: expected an object, found 3");
    CHECK(message_of_reading(R"({"fruit": 3})") == "config.fruit: expected a string, found 3");
    CHECK(message_of_reading(R"({"fruit": "peer"})") ==
          "config.fruit: unknown word \"peer\"; did you mean 'pear'?");
    CHECK(
        message_of_reading(R"({"inner": {"alpha": ")" + std::string(10'000, 'x') + "\"}}").size() <
        300);
}

TEST_CASE("a number out of range is refused with the range") {
    CHECK(message_of_reading(R"({"small": 128})") ==
          "config.small: expected an integer from -128 to 127, found 128");
    CHECK(message_of_reading(R"({"seed": -1})") ==
          "config.seed: expected an integer from 0 to 18446744073709551615, found -1");
    CHECK(contains(message_of_reading(R"({"width": 9223372036854775808})"),
                   "to 9223372036854775807, found 9223372036854775808"));
    CHECK(contains(message_of_reading(R"({"width": 18446744073709551616})"),
                   "config.width: expected an integer"));
    CHECK(contains(message_of_reading(R"({"inner": {"beta": 1e39}})"),
                   "config.inner.beta: expected a number of at most 3.4"));
}

TEST_CASE("infinity and NaN are refused, since JSON cannot write them") {
    CHECK(message_of<ConfigError>([] {
              (void)mor::io::to_json(sample::Inner{std::numeric_limits<double>::infinity(), 0});
          }) == "alpha: is inf, JSON needs it finite");
    sample::Inner inner;
    CHECK_THROWS_AS(mor::io::read_fields({{"beta", std::nan("")}}, inner, "config"), ConfigError);
}

TEST_CASE("a JSON file is parsed") {
    const TempDirectory directory;
    const auto json = mor::io::parse_json_file(
        directory.write("a.json", R"({"a": [1, {"b": 2}, {"b": 3}], "b": {"a": 4}})"));
    CHECK(json["a"][2]["b"] == 3);
    CHECK(json["b"]["a"] == 4);
}

TEST_CASE("a malformed JSON file is refused with its name and the place") {
    const TempDirectory directory;
    const auto parse = [&](std::string_view text) {
        const auto path = directory.write("a.json", text);
        const auto message = message_of<IoError>([&] { (void)mor::io::parse_json_file(path); });
        CHECK(message.starts_with(path.string() + ": "));
        CHECK(message.size() < path.string().size() + 300);
        return message;
    };
    CHECK(contains(parse("{\n  \"a\": nope\n}"), ": byte 11: parse error at line 2, column 9"));
    CHECK(contains(parse(""), "parse error at line 1"));
    CHECK(contains(parse("{} x"), "parse error at line 1"));
    CHECK(contains(parse(R"({"a": {"b": 1, "b": 2}})"), "the key \"b\" is given twice"));
    CHECK(contains(parse(R"({"a": 1e999})"), "number overflow"));
    CHECK(contains(parse("\"\xFF\""), "byte 2"));
    CHECK(contains(parse(std::string{"{}\0{", 4}), "NUL"));
    CHECK(contains(parse(std::string(200'000, '[')), "nests deeper than 100 levels"));
    CHECK(contains(parse("\"" + std::string(100'000, 'x')), "missing closing quote"));
    CHECK(contains(message_of<IoError>([&] { (void)mor::io::parse_json_file(directory / "no"); }),
                   "No such file"));
}
