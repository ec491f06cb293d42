// SPDX-License-Identifier: Apache-2.0

#include "temp_directory.hpp"
#include <mor/core/random.hpp>
#include <mor/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using mor::IoError;
using mor::io::DType;
using mor::io::SafetensorsFile;
using mor::io::TensorToWrite;
using mor::io::write_safetensors;
using mor::test::contains;
using mor::test::message_of;
using mor::test::TempDirectory;

namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
    return std::as_bytes(std::span{values});
}

/// The bytes of a file with this header and data; the length field can be made to lie.
std::string file_with(std::string_view header, std::string_view data = "") {
    const std::uint64_t length = header.size();
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    return file.append(header).append(data);
}

std::string with_length(std::uint64_t length, std::string file) {
    std::memcpy(file.data(), &length, sizeof length);
    return file;
}

std::string message_of_opening(std::string_view content) {
    const TempDirectory directory;
    const auto path = directory.write("m.safetensors", content);
    auto message = message_of<IoError>([&] { SafetensorsFile{path}; });
    const std::string prefix = path.string() + ": ";
    if (message.starts_with(prefix)) {
        message.erase(0, prefix.size());
    }
    CHECK(message.size() < 600);
    return message;
}

std::string message_of_header(std::string_view header, std::string_view data = "") {
    return message_of_opening(file_with(header, data));
}

/// One tensor "a" described by the given fields.
std::string message_of_tensor(std::string_view fields, std::string_view data = "") {
    return message_of_header("{\"a\":{" + std::string{fields} + "}}", data);
}

std::string message_of_shape(std::string_view shape) {
    return message_of_tensor("\"dtype\":\"F32\",\"shape\":" + std::string{shape} +
                             ",\"data_offsets\":[0,0]");
}

}  // namespace

TEST_CASE("tensors and metadata come back as they were written") {
    const TempDirectory directory;
    const auto path = directory / "m.safetensors";
    const std::vector<float> weight{1.5F, -2.0F, 0.25F, 3.0F, 4.0F, 5.0F};
    const std::vector<std::int64_t> steps{1'000'000'000'000};
    const std::vector<std::uint8_t> odd{7, 8, 9};
    write_safetensors(path,
                      {{"z.odd", DType::u8, {3}, bytes_of(odd)},
                       {"weight", DType::f32, {2, 3}, bytes_of(weight)},
                       {"steps", DType::i64, {}, bytes_of(steps)},
                       {"empty", DType::bf16, {0, 4}, {}}},
                      {{"format", "pt"}, {"quote", "\"\xC3\xA9\""}});

    SafetensorsFile opened{path};
    const SafetensorsFile file{std::move(opened)};
    CHECK(file.metadata() ==
          std::map<std::string, std::string>{{"format", "pt"}, {"quote", "\"\xC3\xA9\""}});
    REQUIRE(file.tensors().size() == 4);
    REQUIRE(file.find("weight") != nullptr);
    CHECK(file.find("weight")->dtype == DType::f32);
    CHECK(file.find("weight")->shape == std::vector<mor::Index>{2, 3});
    CHECK(file.find("weight")->bytes.size() == 24);
    CHECK(file.find("steps")->shape.empty());
    CHECK(file.find("empty")->bytes.empty());
    CHECK(file.find("missing") == nullptr);
    CHECK(file.read_as<float>("weight") == weight);
    CHECK(file.read_as<double>("weight")[2] == 0.25);
    CHECK(file.read_as<std::int64_t>("steps") == steps);
    CHECK(file.read_as<std::int32_t>("z.odd") == std::vector<std::int32_t>{7, 8, 9});
    CHECK(file.read_as<float>("empty").empty());
}

TEST_CASE("the bytes of a file are fixed by its content") {
    const TempDirectory directory;
    const std::vector<std::uint8_t> values{1, 2};
    write_safetensors(directory / "a",
                      {{"b", DType::u8, {1}, bytes_of(values).first(1)},
                       {"a", DType::u8, {1}, bytes_of(values).last(1)}},
                      {{"k", "v"}});
    const std::string header = R"({"__metadata__":{"k":"v"},)"
                               R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                               R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
    const std::string padding((8 - header.size() % 8) % 8, ' ');
    CHECK(mor::io::read_file(directory / "a") == file_with(header + padding, "\1\2"));

    write_safetensors(directory / "empty", {});
    CHECK(mor::io::read_file(directory / "empty") == file_with("{}      "));
    CHECK(SafetensorsFile{directory / "empty"}.tensors().empty());
}

TEST_CASE("numbers are converted where the type can hold them") {
    const TempDirectory directory;
    const auto path = directory / "m.safetensors";
    const std::vector<double> f64{0.1, 1e300, 1.0};
    const std::vector<std::uint16_t> halves{0x3C00, 0xC000};
    const std::vector<std::uint16_t> bfloats{0x3F80, 0xC049};
    const std::vector<std::int32_t> i32{std::numeric_limits<std::int32_t>::min(), 5};
    const std::vector<std::int64_t> i64{1, 2};
    const std::vector<std::uint8_t> flags{0, 1};
    write_safetensors(path, {{"f64", DType::f64, {3}, bytes_of(f64)},
                             {"f16", DType::f16, {2}, bytes_of(halves)},
                             {"bf16", DType::bf16, {2}, bytes_of(bfloats)},
                             {"i32", DType::i32, {2}, bytes_of(i32)},
                             {"i64", DType::i64, {2}, bytes_of(i64)},
                             {"flags", DType::boolean, {2}, bytes_of(flags)}});
    const SafetensorsFile file{path};

    CHECK(file.read_as<double>("f64") == f64);
    CHECK(file.read_as<float>("f64")[0] == 0.1F);
    CHECK(std::isinf(file.read_as<float>("f64")[1]));
    CHECK(file.read_as<float>("f16") == std::vector<float>{1.0F, -2.0F});
    CHECK(file.read_as<double>("bf16") == std::vector<double>{1.0, -3.140625});
    CHECK(file.read_as<std::int32_t>("i32") == i32);
    CHECK(file.read_as<std::int64_t>("i32")[0] == std::numeric_limits<std::int32_t>::min());
    CHECK(file.read_as<double>("i32")[1] == 5.0);

    CHECK(message_of<IoError>([&] { (void)file.read_as<std::int32_t>("i64"); }) ==
          path.string() + ": tensor 'i64' has dtype I64, which cannot be read as I32");
    CHECK_THROWS_AS((void)file.read_as<double>("i64"), IoError);
    CHECK_THROWS_AS((void)file.read_as<float>("i32"), IoError);
    CHECK_THROWS_AS((void)file.read_as<std::int64_t>("bf16"), IoError);
    CHECK_THROWS_AS((void)file.read_as<std::int64_t>("flags"), IoError);
    CHECK(message_of<IoError>([&] { (void)file.read_as<float>("f65"); }) ==
          path.string() + ": has no tensor 'f65'; the nearest name is 'f64'");
}

TEST_CASE("tensors at odd addresses and in any order of the header are read") {
    const TempDirectory directory;
    const auto* const header = R"({"two":{"dtype":"F32","shape":[1],"data_offsets":[5,9]},)"
                               R"("u":{"data_offsets":[4,5],"dtype":"U8","shape":[1]},)"
                               R"("one":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )";
    const std::string data{
        "\x00\x00\x80\x3F"
        "u"
        "\x00\x00\x00\x40",
        9};
    const SafetensorsFile file{directory.write("m", file_with(header, data))};
    CHECK(file.read_as<float>("one") == std::vector<float>{1.0F});
    CHECK(file.read_as<float>("two") == std::vector<float>{2.0F});
}

TEST_CASE("a file whose header does not fit is refused") {
    CHECK(message_of_opening("") == "is too short, has 0 bytes, expected at least 8");
    CHECK(message_of_opening("1234567") == "is too short, has 7 bytes, expected at least 8");
    CHECK(message_of_opening(with_length(9, file_with("{}"))) ==
          "the header has 9 bytes, but only 2 follow");
    CHECK(message_of_opening(with_length(100'000'001, file_with("{}"))) ==
          "the header has 100000001 bytes, expected at most 100000000");
    CHECK(contains(message_of_opening(with_length(~std::uint64_t{0}, file_with("{}"))),
                   "expected at most"));
    CHECK(contains(message_of<IoError>([] { SafetensorsFile{"/no/such/file"}; }),
                   "/no/such/file: cannot be opened: No such file"));
}

TEST_CASE("a header that is no JSON object of objects is refused") {
    CHECK(message_of_header("") == "the header is not a JSON object");
    CHECK(message_of_header("[]") == "the header is not a JSON object");
    CHECK(message_of_header(" {}") == "the header is not a JSON object");
    CHECK(contains(message_of_header("{\"a\":"), "the header is not valid JSON at its byte 6"));
    CHECK(contains(message_of_header("{} x"), "not valid JSON"));
    CHECK(contains(message_of_header("{\"\xFF\":1}"), "not valid JSON"));
    CHECK(message_of_header(std::string_view{"{}\0x", 4}) == "the header contains a NUL byte");
    CHECK(message_of_header(R"({"a":null})") ==
          "the header describes 'a' by null, expected an object");
    CHECK(message_of_header(R"({"a":[1]})") ==
          "the header describes 'a' by an array, expected an object");
    CHECK(contains(message_of_header(R"({"a":1e999})"), "not valid JSON"));
    CHECK(message_of_header(R"({"__metadata__":{"k":1}})") ==
          "the metadata 'k' is 1, expected a string");
    CHECK(message_of_header(R"({"__metadata__":{"k":{}}})") ==
          "the metadata 'k' is an object, expected a string");
}

TEST_CASE("a name given twice is refused") {
    const std::string a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(message_of_header("{" + a + "," + a + "}") == "the header names 'a' twice");
    CHECK(message_of_header(R"({"__metadata__":{},"__metadata__":{}})") ==
          "the header names '__metadata__' twice");
    CHECK(message_of_header(R"({"__metadata__":{"k":"1","k":"2"}})") ==
          "the metadata name 'k' twice");
    CHECK(message_of_tensor(R"("dtype":"U8","dtype":"U8")") == "tensor 'a': 'dtype': given twice");
}

TEST_CASE("a tensor that is not described as the format says is refused") {
    CHECK(message_of_tensor("") == "tensor 'a': 'dtype' is missing");
    CHECK(message_of_tensor(R"("dtype":"U8","shape":[0])") ==
          "tensor 'a': 'data_offsets' is missing");
    CHECK(message_of_tensor(R"("dtype":"F8_E4M3")") ==
          "tensor 'a': 'dtype': unknown dtype 'F8_E4M3'");
    CHECK(message_of_tensor(R"("dtype":8)") == "tensor 'a': 'dtype': found 8, expected a string");
    CHECK(message_of_tensor(R"("color":8)") == "tensor 'a': 'color': unknown field");
    CHECK(message_of_tensor(R"("shape":"2x3")") ==
          "tensor 'a': 'shape': found '2x3', expected an array");
}

TEST_CASE("an impossible shape is refused") {
    CHECK(message_of_shape("[-1]") ==
          "tensor 'a': 'shape': found -1, expected integers from 0 to 9223372036854775807");
    for (const auto* shape : {"[1.5]", "[1e3]", "[true]", "[\"1\"]", "[[1]]", "[{}]",
                              "[9223372036854775808]", "[18446744073709551616]"}) {
        CAPTURE(shape);
        CHECK(contains(message_of_shape(shape), "tensor 'a': 'shape': found "));
    }
    for (const auto* shape :
         {"[9223372036854775807]", "[4294967296,4294967296]", "[4611686018427387904,4,0]"}) {
        CAPTURE(shape);
        CHECK(message_of_shape(shape) == "tensor 'a': its shape has too many elements");
    }
    std::string long_shape = "[1";
    for (int i = 0; i < 100'000; ++i) {
        long_shape += ",1";
    }
    CHECK(message_of_shape(long_shape + "]") == "tensor 'a': 'shape': more than 64 extents");
}

TEST_CASE("deep nesting is refused where it begins") {
    const std::string deep(1'000'000, '[');
    CHECK(contains(message_of_header("{\"a\":" + deep), "expected an object"));
    CHECK(contains(message_of_shape(deep), "found an array"));
    std::string objects;
    for (int i = 0; i < 100'000; ++i) {
        objects += "{\"a\":";
    }
    CHECK(contains(message_of_header(objects), "unknown field"));
}

TEST_CASE("impossible offsets are refused") {
    const auto message_of_offsets = [](std::string_view offsets) {
        return message_of_tensor(
            R"("dtype":"U8","shape":[2],"data_offsets":)" + std::string{offsets}, "ab");
    };
    CHECK(message_of_offsets("[0,2]") == "<nothing thrown>");
    CHECK(message_of_offsets("[0]") == "tensor 'a': 'data_offsets': expected two integers");
    CHECK(message_of_offsets("[0,2,2]") ==
          "tensor 'a': 'data_offsets': found 2, expected two integers from 0 up");
    CHECK(contains(message_of_offsets("[-1,1]"), "found -1"));
    CHECK(contains(message_of_offsets("[0,2.0]"), "found 2.0"));
    CHECK(contains(message_of_offsets("{}"), "expected an array"));
    CHECK(message_of_offsets("[2,0]") == "tensor 'a': begins at byte 2 but ends at 0");
    CHECK(message_of_offsets("[0,3]") == "tensor 'a': ends at byte 3, the data at 2");
    CHECK(contains(message_of_offsets("[0,18446744073709551615]"), "the data at 2"));
    CHECK(message_of_offsets("[0,1]") == "tensor 'a': has 1 bytes, its shape and dtype take 2");
}

TEST_CASE("tensors must cover the data without overlap or hole") {
    const auto message_of_two = [](std::string_view a, std::string_view b, std::string_view data) {
        const std::string fields = R"("dtype":"U8","shape":[2],"data_offsets":)";
        return message_of_header(
            "{\"a\":{" + fields + std::string{a} + "},\"b\":{" + fields + std::string{b} + "}}",
            data);
    };
    CHECK(message_of_two("[2,4]", "[0,2]", "abcd") == "<nothing thrown>");
    CHECK(message_of_two("[0,2]", "[1,3]", "abc") == "the tensors 'a' and 'b' overlap");
    CHECK(message_of_two("[0,2]", "[0,2]", "ab") == "the tensors 'a' and 'b' overlap");
    CHECK(message_of_two("[0,2]", "[3,5]", "abcde") ==
          "1 bytes before tensor 'b' belong to no tensor");
    CHECK(message_of_two("[1,3]", "[3,5]", "abcde") ==
          "1 bytes before tensor 'a' belong to no tensor");
    CHECK(message_of_two("[0,2]", "[2,4]", "abcde") == "the last 1 bytes belong to no tensor");
    CHECK(message_of_header("{}", "x") == "the last 1 bytes belong to no tensor");
}

TEST_CASE("a hostile name cannot fill an error message or send control characters") {
    const auto message = message_of_header("{\"" + std::string(50'000, 'n') + "\\n\":1}");
    CHECK(message.size() < 300);
    CHECK(message_of_header("{\"a\\n\\u001b\":1}") ==
          "the header describes 'a?\?' by 1, expected an object");
}

TEST_CASE("what cannot be written is refused and leaves the old file") {
    const TempDirectory directory;
    const auto path = directory.write("m.safetensors", "old");
    const std::vector<std::uint8_t> values{1, 2};
    const auto write = [&](const std::vector<TensorToWrite>& tensors) {
        return message_of<IoError>([&] { write_safetensors(path, tensors); });
    };
    const auto one = [&](std::string name, std::vector<mor::Index> shape) {
        return TensorToWrite{std::move(name), DType::u8, std::move(shape), bytes_of(values)};
    };
    CHECK(write({one("a", {2}), one("a", {2})}) ==
          path.string() + ": the tensor name 'a' is given twice or reserved");
    CHECK(contains(write({one("__metadata__", {2})}), "reserved"));
    CHECK(write({one("a", {3, 1})}) ==
          path.string() + ": tensor 'a' has 2 bytes, which do not fit its shape [3,1] of U8");
    CHECK(contains(write({one("a", {-2, -1})}), "do not fit"));
    CHECK(contains(write({one("\xFF", {2})}), "cannot be written"));
    CHECK(mor::io::read_file(path) == "old");
    CHECK(directory.num_entries() == 1);
}

TEST_CASE("a damaged file is either read or refused, whatever the damage") {
    const TempDirectory directory;
    const auto path = directory / "m.safetensors";
    const std::vector<float> floats{1.0F, 2.0F, 3.0F, 4.0F};
    const std::vector<std::int64_t> integers{5, 6};
    write_safetensors(path,
                      {{"a.weight", DType::f32, {2, 2}, bytes_of(floats)},
                       {"b", DType::i64, {2}, bytes_of(integers)},
                       {"c", DType::f16, {}, bytes_of(floats).first(2)}},
                      {{"format", "pt"}});
    const std::string valid = mor::io::read_file(path);
    // Bytes that mean something to the format make deeper mistakes than random ones.
    constexpr std::string_view telling = "{}[]\",:0123456789-.eEFIBUD \\\0\xFF";

    mor::Random random{2025};
    const auto below = [&](std::size_t bound) {
        return static_cast<std::size_t>(random.below(static_cast<mor::Index>(bound)));
    };
    int num_read = 0;
    for (int i = 0; i < 20'000; ++i) {
        std::string damaged = valid;
        for (std::size_t left = 1 + below(4); left > 0; --left) {
            const std::size_t position = below(damaged.size());
            const auto random_byte = static_cast<char>(below(256));
            switch (below(5)) {
                case 0:
                    damaged[position] = random_byte;
                    break;
                case 1:
                    damaged[position] = telling[below(telling.size())];
                    break;
                case 2:
                    damaged.insert(position, 1, telling[below(telling.size())]);
                    break;
                case 3:
                    damaged.erase(position, 1 + below(3));
                    break;
                default:
                    damaged.resize(1 + position);
                    break;
            }
        }
        directory.write("m.safetensors", damaged);
        try {
            const SafetensorsFile file{path};
            for (const auto& [name, tensor] : file.tensors()) {
                if (tensor.dtype == DType::f32 || tensor.dtype == DType::f16) {
                    (void)file.read_as<double>(name);
                }
            }
            ++num_read;
        } catch (const IoError&) {  // as it should be; anything else fails the test
        }
    }
    CHECK(num_read > 100);
    CHECK(num_read < 15'000);
}
