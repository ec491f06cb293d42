// SPDX-License-Identifier: Apache-2.0
//
// A model as a directory: config.json (structure, sizes, hyper-parameters) and model.safetensors
// (each distinct parameter once; tied weights stay tied because there is only one of them).
#pragma once

#include <mor/checkpoint/tensors.hpp>
#include <mor/io/atomic_file.hpp>
#include <mor/io/json.hpp>
#include <mor/model/model.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor {

namespace detail {

inline constexpr std::string_view checkpoint_format = "mor-1";
inline constexpr const char* config_file = "config.json";
inline constexpr const char* weights_file = "model.safetensors";

/// The names of an architecture's choices, slot by slot.
template <class A, Backend B>
[[nodiscard]] std::array<std::pair<std::string_view, std::string_view>, 7> slot_names() {
    return {{{"sharing", A::Sharing::name},
             {"router", A::Router::name},
             {"schedule", A::Schedule::name},
             {"cache", A::Cache::name},
             {"relaxation", A::Relaxation::name},
             {"injection", A::Injection::name},
             {"block", BlockOf<A, B>::name}}};
}

template <class A, Backend B>
[[nodiscard]] nlohmann::ordered_json describe(const Model<A, B>& model) {
    nlohmann::ordered_json json;
    json["format"] = checkpoint_format;
    for (const auto& [slot, name] : slot_names<A, B>()) {
        json["architecture"][std::string{slot}] = name;
    }
    json["model"] = io::to_json(model.config());
    json["sharing"] = io::to_json(model.options().sharing);
    json["router"] = io::to_json(model.options().router);
    json["schedule"] = io::to_json(model.options().schedule);
    json["cache"] = io::to_json(model.options().cache);
    json["relaxation"] = io::to_json(model.options().relaxation);
    json["injection"] = io::to_json(model.options().injection);
    return json;
}

/// The child object `key`; throws ConfigError naming the file if it is missing.
[[nodiscard]] inline const nlohmann::json& section(const nlohmann::json& json, std::string_view key,
                                                   const std::string& file) {
    check<ConfigError>(json.is_object() && json.contains(key), file, ": the key '", key,
                       "' is missing");
    return json.at(std::string{key});
}

/// Throws ConfigError, naming file and slot, unless the file describes architecture A.
template <class A, Backend B>
void check_architecture(const nlohmann::json& json, const std::string& file) {
    io::expect_known_keys(json,
                          {"format", "architecture", "model", "sharing", "router", "schedule",
                           "cache", "relaxation", "injection"},
                          file);
    const nlohmann::json& format = section(json, "format", file);
    check<ConfigError>(format == checkpoint_format, file, ": format is ", format.dump(),
                       ", expected \"", checkpoint_format, "\"");
    const nlohmann::json& names = section(json, "architecture", file);
    io::expect_known_keys(
        names, {"sharing", "router", "schedule", "cache", "relaxation", "injection", "block"},
        file + ": architecture");
    for (const auto& [slot, name] : slot_names<A, B>()) {
        const nlohmann::json& found = section(names, slot, file + ": architecture");
        check<ConfigError>(found == name, file, ": ", slot, " is ", found.dump(),
                           ", this program was built with \"", name, "\"");
    }
}

/// Writes the two files into an existing directory.
template <class A, Backend B>
void write_model_files(const Model<A, B>& model, const std::filesystem::path& directory) {
    io::write_file_atomically(directory / config_file, describe(model).dump(2) + "\n");
    TensorWriter<B> tensors;
    model.visit_parameters([&](const Parameter<B>& parameter) {
        tensors.add(parameter.name(), parameter.shape(), parameter.value());
    });
    tensors.write(directory / weights_file);
}

/// The model of a config.json. Throws ConfigError naming the file if that is impossible.
template <class A, Backend B>
[[nodiscard]] Model<A, B> make_model(B& backend, const ModelConfig& config,
                                     const ArchitectureOptions<A>& options,
                                     const std::string& file) {
    try {
        return Model<A, B>{backend, config, options};
    } catch (const Error& error) {
        fail<ConfigError>(file, ": ", error.what());
    } catch (const std::bad_alloc&) {
        fail<ConfigError>(file, ": the sizes need more memory than there is");
    } catch (const std::length_error&) {
        fail<ConfigError>(file, ": the sizes need more memory than there is");
    }
}

template <class A, Backend B>
void read_weights(Model<A, B>& model, TensorReader<B>& tensors) {
    model.visit_parameters([&](Parameter<B>& parameter) {
        tensors.read(parameter.name(), parameter.shape(), parameter.value());
    });
    tensors.expect_all_read();
}

/// Throws ConfigError if the weights are too few for the sizes, before anything is allocated for
/// them: a wrong number in config.json must not cost the machine's memory.
template <class A, Backend B>
void check_sizes(const ModelConfig& config, const ArchitectureOptions<A>& options,
                 const TensorReader<B>& tensors, const std::string& file) {
    const auto num_physical = [&] {
        try {
            validate(config);
            return typename A::Sharing{options.sharing}.layout(config.num_layers).num_physical();
        } catch (const ConfigError& error) {
            fail<ConfigError>(file, ": ", error.what());
        }
    }();
    check<ConfigError>(num_physical <= tensors.num_tensors(), file, ": num_layers is ",
                       config.num_layers, ", but the weights are only ", tensors.num_tensors(),
                       " tensors");
    const Index widest =
        std::max({config.vocab_size, config.intermediate_size, config.num_heads * config.head_dim});
    check<ConfigError>(widest <= tensors.num_elements() / config.hidden_size, file,
                       ": a matrix of ", widest, " x ", config.hidden_size,
                       " does not fit into the weights' ", tensors.num_elements(), " numbers");
}

}  // namespace detail

/// Writes the model to a directory, atomically: a crash leaves the old one or the new one, whole.
/// Throws IoError naming the file and the cause.
template <class A, Backend B>
void save_model(const Model<A, B>& model, const std::filesystem::path& directory) {
    io::replace_directory_atomically(directory, [&](const std::filesystem::path& staging) {
        detail::write_model_files(model, staging);
    });
}

/// Reads a model of architecture A. Throws IoError or ConfigError naming the file and the cause if
/// files are missing or malformed, keys unknown, or names, shapes and dtypes do not fit.
template <class A, Backend B>
[[nodiscard]] Model<A, B> load_model(B& backend, const std::filesystem::path& directory) {
    const std::filesystem::path path = directory / detail::config_file;
    const std::string file = path.string();
    const nlohmann::json json = io::parse_json_file(path);
    detail::check_architecture<A, B>(json, file);
    ModelConfig config;
    ArchitectureOptions<A> options;
    const auto read = [&](const char* key, auto& fields) {
        io::read_fields(detail::section(json, key, file), fields, file + ": " + key);
    };
    read("model", config);
    read("sharing", options.sharing);
    read("router", options.router);
    read("schedule", options.schedule);
    read("cache", options.cache);
    read("relaxation", options.relaxation);
    read("injection", options.injection);
    detail::TensorReader<B> tensors{directory / detail::weights_file};
    detail::check_sizes<A>(config, options, tensors, file);
    Model<A, B> model = detail::make_model<A>(backend, config, options, file);
    detail::read_weights(model, tensors);
    return model;
}

}  // namespace mor
