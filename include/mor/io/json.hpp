// SPDX-License-Identifier: Apache-2.0
//
// Options structs to JSON and back, by the names in their fields(). Reading is strict: what is
// misspelt or of the wrong kind is an error that says where.
#pragma once

#include <mor/core/error.hpp>
#include <mor/core/reflect.hpp>
#include <mor/io/atomic_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mor::io {

/// An enum written as words: beside it lie `std::string_view to_string(E)` and
/// `constexpr std::array<E, N> enum_values(E)`, whose argument only selects the overload.
template <class E>
concept IsWordEnum = std::is_enum_v<E> && requires(E e) {
    { to_string(e) } -> std::convertible_to<std::string_view>;
    { enum_values(e)[0] } -> std::convertible_to<E>;
};

/// Text from a file, fit for an error message: shortened, and without control characters.
[[nodiscard]] inline std::string printable(std::string_view text) {
    constexpr std::size_t longest = 160;
    std::string result{text.substr(0, longest)};
    std::replace_if(
        result.begin(), result.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
    return text.size() > longest ? result + "..." : result;
}

/// Throws ConfigError, naming the place, unless `json` is an object with no other keys than the
/// known ones; an unknown key is named with the nearest known one.
inline void expect_known_keys(const nlohmann::json& json, const std::vector<std::string>& known,
                              std::string_view where);

/// An object with the fields in the order of their declaration. Throws ConfigError if a number is
/// infinite or NaN, which JSON cannot write.
template <Reflected T>
[[nodiscard]] nlohmann::ordered_json to_json(const T& options);

/// Overwrites the fields that `json` names; the others keep their values. `where` leads to the
/// object in messages, for example "config.json: router". Throws ConfigError naming the place if
/// `json` is not an object, a key is unknown (with the nearest one), a value is of the wrong kind
/// or out of range, or a word unknown; fields may then have been read already.
template <Reflected T>
void read_fields(const nlohmann::json& json, T& options, std::string_view where);

namespace detail {

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

template <class T>
inline constexpr bool is_unsupported = true;

/// The double that prints as the float does: 0.1F becomes 0.1, not 0.10000000149011612.
inline double shortest_double(float value) {
    std::array<char, 64> text{};
    const auto written = std::to_chars(text.data(), text.data() + text.size(), value);
    double result = 0;
    std::from_chars(text.data(), written.ptr, result);
    return static_cast<float>(result) == value ? result : static_cast<double>(value);
}

template <class T>
nlohmann::ordered_json value_to_json(std::string_view name, const T& value) {
    if constexpr (std::floating_point<T>) {
        check<ConfigError>(std::isfinite(value), name, ": is ", value, ", JSON needs it finite");
        if constexpr (std::same_as<T, float>) {
            return shortest_double(value);
        } else {
            return value;
        }
    } else if constexpr (std::integral<T> || std::same_as<T, std::string>) {
        return value;
    } else if constexpr (IsWordEnum<T>) {
        return std::string{to_string(value)};
    } else if constexpr (is_vector<T>) {
        auto array = nlohmann::ordered_json::array();
        for (const auto& element : value) {
            array.push_back(value_to_json<typename T::value_type>(name, element));
        }
        return array;
    } else if constexpr (Reflected<T>) {
        return io::to_json(value);
    } else {
        static_assert(!is_unsupported<T>,
                      "mor: a field of Options must be a bool, integer, floating-point number, "
                      "std::string, enum with to_string and enum_values, Reflected aggregate, or "
                      "a std::vector of these");
    }
}

/// A JSON value for an error message.
inline std::string describe(const nlohmann::json& json) {
    if (json.is_object()) {
        return "an object";
    }
    if (json.is_array()) {
        return "an array";
    }
    return printable(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

/// The end of a sentence about an unknown word.
inline std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
    return known.empty() ? "" : "; did you mean '" + std::string{nearest_name(word, known)} + "'?";
}

template <class... Expected>
void expect(bool holds, const nlohmann::json& json, std::string_view where,
            const Expected&... expected) {
    if (!holds) {
        fail<ConfigError>(where, ": expected ", expected..., ", found ", describe(json));
    }
}

template <std::integral T>
void read_integer(const nlohmann::json& json, T& value, std::string_view where) {
    using Limits = std::numeric_limits<T>;
    expect(json.is_number_integer(), json, where, "an integer");
    const bool fits = json.is_number_unsigned() ? std::in_range<T>(json.get<std::uint64_t>())
                                                : std::in_range<T>(json.get<std::int64_t>());
    expect(fits, json, where, "an integer from ", +Limits::min(), " to ", +Limits::max());
    value = json.get<T>();
}

template <IsWordEnum E>
void read_word(const nlohmann::json& json, E& value, std::string_view where) {
    expect(json.is_string(), json, where, "a string");
    const auto& word = json.get_ref<const std::string&>();
    std::vector<std::string> words;
    for (const E candidate : enum_values(E{})) {
        if (to_string(candidate) == word) {
            value = candidate;
            return;
        }
        words.emplace_back(to_string(candidate));
    }
    fail<ConfigError>(where, ": unknown word ", describe(json), suggestion(word, words));
}

template <class T>
void read_value(const nlohmann::json& json, T& value, const std::string& where) {
    if constexpr (std::same_as<T, bool>) {
        expect(json.is_boolean(), json, where, "true or false");
        value = json.get<bool>();
    } else if constexpr (std::integral<T>) {
        read_integer(json, value, where);
    } else if constexpr (std::floating_point<T>) {
        expect(json.is_number(), json, where, "a number");
        const auto number = json.get<double>();
        expect(std::abs(number) <= static_cast<double>(std::numeric_limits<T>::max()), json, where,
               "a number of at most ", std::numeric_limits<T>::max());
        value = static_cast<T>(number);
    } else if constexpr (std::same_as<T, std::string>) {
        expect(json.is_string(), json, where, "a string");
        value = json.get<std::string>();
    } else if constexpr (IsWordEnum<T>) {
        read_word(json, value, where);
    } else if constexpr (is_vector<T>) {
        expect(json.is_array(), json, where, "an array");
        T elements;
        for (const auto& item : json) {
            typename T::value_type element{};
            read_value(item, element, where + "[" + std::to_string(elements.size()) + "]");
            elements.push_back(std::move(element));
        }
        value = std::move(elements);
    } else if constexpr (Reflected<T>) {
        read_fields(json, value, where);
    } else {
        static_assert(!is_unsupported<T>, "mor: see mor::io::to_json for the kinds of fields");
    }
}

}  // namespace detail

inline void expect_known_keys(const nlohmann::json& json, const std::vector<std::string>& known,
                              std::string_view where) {
    detail::expect(json.is_object(), json, where, "an object");
    for (const auto& item : json.items()) {
        check<ConfigError>(std::find(known.begin(), known.end(), item.key()) != known.end(), where,
                           ": unknown key '", printable(item.key()), "'",
                           detail::suggestion(item.key(), known));
    }
}

template <Reflected T>
nlohmann::ordered_json to_json(const T& options) {
    auto object = nlohmann::ordered_json::object();
    visit_fields(options, [&](std::string_view name, const auto& value) {
        object[std::string{name}] = detail::value_to_json(name, value);
    });
    return object;
}

template <Reflected T>
void read_fields(const nlohmann::json& json, T& options, std::string_view where) {
    std::vector<std::string> known;
    visit_fields(std::as_const(options),
                 [&](std::string_view name, const auto&) { known.emplace_back(name); });
    expect_known_keys(json, known, where);
    visit_fields(options, [&](std::string_view name, auto& value) {
        if (const auto found = json.find(name); found != json.end()) {
            detail::read_value(*found, value, std::string{where}.append(".").append(name));
        }
    });
}

/// The JSON text of a file. Throws IoError naming the file, and the place in it, if it cannot be
/// read, is not JSON, names a key twice in one object, or nests deeper than 100 levels.
[[nodiscard]] inline nlohmann::json parse_json_file(const std::filesystem::path& path) {
    constexpr int max_nesting = 100;
    const std::string text = read_file(path);
    // The JSON parser takes a NUL for the end of the text.
    check<IoError>(text.find('\0') == std::string::npos, path.string(), ": contains a NUL byte");

    using Json = nlohmann::json;
    std::vector<std::set<std::string>> keys;  // of the objects around the present place
    const auto inspect = [&](int nesting, Json::parse_event_t event, Json& parsed) {
        check<IoError>(nesting <= max_nesting, path.string(), ": nests deeper than ", max_nesting,
                       " levels");
        if (event == Json::parse_event_t::object_start) {
            keys.emplace_back();
        } else if (event == Json::parse_event_t::object_end) {
            keys.pop_back();
        } else if (event == Json::parse_event_t::key) {
            check<IoError>(keys.back().insert(parsed.get<std::string>()).second, path.string(),
                           ": the key ", detail::describe(parsed), " is given twice");
        }
        return true;
    };
    try {
        return Json::parse(text, inspect);
    } catch (const Json::parse_error& error) {
        const std::string_view what = error.what();  // "[id] parse error at line 1, column 2: ..."
        fail<IoError>(path.string(), ": byte ", error.byte, ": ",
                      printable(what.substr(what.find(' ') + 1)));
    } catch (const Json::exception& error) {
        fail<IoError>(path.string(), ": ", error.what());
    }
}

}  // namespace mor::io
