// SPDX-License-Identifier: Apache-2.0
//
// Opening a checkpoint of one of several architectures: config.json says which.
#pragma once

#include <mor/checkpoint/model.hpp>

#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <variant>

namespace mor {

/// The architectures a program is built with.
template <class... A>
struct ArchitectureList {};

namespace detail {

template <class List, Backend B>
struct AnyModelOf;
template <class... A, Backend B>
struct AnyModelOf<ArchitectureList<A...>, B> {
    using type = std::variant<Model<A, B>...>;

    static type load(B& backend, const std::filesystem::path& directory) {
        const std::filesystem::path path = directory / config_file;
        const nlohmann::json names =
            section(io::parse_json_file(path), "architecture", path.string());
        std::optional<type> model;
        const auto try_one = [&]<class One>() {
            if (!model && matches<One>(names)) {
                model.emplace(load_model<One>(backend, directory));
            }
        };
        (try_one.template operator()<A>(), ...);
        if (!model) {
            std::ostringstream built_with;
            ((built_with << "\n  " << format<A>()), ...);
            fail<ConfigError>(path.string(), ": no architecture of this program matches ",
                              names.dump(), "; it was built with", built_with.str());
        }
        return std::move(*model);
    }

private:
    template <class One>
    static bool matches(const nlohmann::json& names) {
        bool all = true;
        for (const auto& [slot, name] : slot_names<One, B>()) {
            all = all && names.is_object() &&
                  names.value(std::string{slot}, nlohmann::json{}) == name;
        }
        return all;
    }
    template <class One>
    static std::string format() {
        nlohmann::ordered_json names;
        for (const auto& [slot, name] : slot_names<One, B>()) {
            names[std::string{slot}] = name;
        }
        return names.dump();
    }
};

}  // namespace detail

template <class List, Backend B>
using AnyModel = typename detail::AnyModelOf<List, B>::type;

/// Reads a model of whichever architecture of `List` the checkpoint names; std::visit it. Throws
/// ConfigError listing the architectures if none matches, and as load_model does.
template <class List, Backend B>
[[nodiscard]] AnyModel<List, B> load_any(B& backend, const std::filesystem::path& directory) {
    return detail::AnyModelOf<List, B>::load(backend, directory);
}

}  // namespace mor
