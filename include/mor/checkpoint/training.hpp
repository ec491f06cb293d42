// SPDX-License-Identifier: Apache-2.0
//
// A training run as a directory: the model's files, the optimiser's moments, and how far it is.
// Data order and every random draw follow from the seed and the step, so this is the whole state.
#pragma once

#include <mor/checkpoint/model.hpp>
#include <mor/train/trainer.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mor {

namespace detail {

inline constexpr const char* optimizer_file = "optimizer.safetensors";
inline constexpr const char* training_file = "training.json";
inline constexpr std::string_view checkpoint_prefix = "step-";

/// Throws ConfigError naming the first value that is missing, unknown or different. `prefix` leads
/// to the two objects, for example "options.".
inline void check_same(const nlohmann::json& saved, const nlohmann::json& ours,
                       const std::string& file, const std::string& prefix = "") {
    nlohmann::json both = saved;
    both.update(ours);
    for (const auto& item : both.items()) {
        const std::string name = prefix + item.key();
        check<ConfigError>(saved.contains(item.key()), file, ": '", name, "' is missing");
        check<ConfigError>(ours.contains(item.key()), file, ": '", io::printable(name),
                           "' is unknown");
        const nlohmann::json& found = saved.at(item.key());
        const nlohmann::json& expected = ours.at(item.key());
        if (found.is_object() && expected.is_object()) {
            check_same(found, expected, file, name + ".");
        } else {
            check<ConfigError>(found == expected, file, ": ", name, " is ", found.dump(),
                               ", this run has ", expected.dump());
        }
    }
}

/// What must be the same for a run to continue bit for bit, besides the model's description.
template <class A, Backend B, TokenStream D>
[[nodiscard]] nlohmann::ordered_json describe_run(const Trainer<A, B, D>& trainer) {
    return {{"element", io::to_string(io::dtype_of<typename B::Element>)},
            {"data",
             {{"tokens", trainer.data().size()},
              {"first", trainer.range().first},
              {"last", trainer.range().last}}},
            {"options", io::to_json(trainer.options())}};
}

}  // namespace detail

/// Writes the run to `directory`, atomically. Throws IoError naming the file and the cause.
template <class A, Backend B, TokenStream D>
void save_training(Trainer<A, B, D>& trainer, const std::filesystem::path& directory) {
    io::replace_directory_atomically(directory, [&](const std::filesystem::path& staging) {
        detail::write_model_files(trainer.model(), staging);
        detail::TensorWriter<B> tensors;
        for (const auto& moments : trainer.optimizer().moments()) {
            tensors.add("m." + moments.name, {moments.m.size()}, moments.m.view());
            tensors.add("v." + moments.name, {moments.v.size()}, moments.v.view());
        }
        tensors.write(staging / detail::optimizer_file);
        nlohmann::ordered_json json = detail::describe_run(trainer);
        json["completed_steps"] = trainer.completed_steps();
        io::write_file_atomically(staging / detail::training_file, json.dump(2) + "\n");
    });
}

/// Restores a run saved with the same architecture, sizes, options, element type and data range
/// into a fresh trainer, which then continues bit for bit on as many threads. Throws IoError or
/// ConfigError naming the file and what differs; the trainer must not be used after that.
template <class A, Backend B, TokenStream D>
void resume_training(Trainer<A, B, D>& trainer, const std::filesystem::path& directory) {
    const std::filesystem::path config_path = directory / detail::config_file;
    const nlohmann::json config = io::parse_json_file(config_path);
    detail::check_architecture<A, B>(config, config_path.string());
    detail::check_same(config, detail::describe(trainer.model()), config_path.string());
    const std::filesystem::path path = directory / detail::training_file;
    const std::string file = path.string();
    const nlohmann::json json = io::parse_json_file(path);
    io::expect_known_keys(json, {"completed_steps", "element", "data", "options"}, file);
    nlohmann::json run = json;
    run.erase("completed_steps");
    detail::check_same(run, detail::describe_run(trainer), file);
    const nlohmann::json& completed = detail::section(json, "completed_steps", file);
    check<ConfigError>(
        completed.is_number_unsigned() &&
            std::cmp_less_equal(completed.get<std::uint64_t>(), trainer.options().steps),
        file, ": completed_steps is ", completed.dump(), ", expected a number up to ",
        trainer.options().steps);

    // Both are opened first: most damage shows before the trainer is changed.
    detail::TensorReader<B> weights{directory / detail::weights_file};
    detail::TensorReader<B> tensors{directory / detail::optimizer_file};
    detail::read_weights(trainer.model(), weights);
    for (auto& moments : trainer.optimizer().moments()) {
        tensors.read("m." + moments.name, {moments.m.size()}, moments.m.view());
        tensors.read("v." + moments.name, {moments.v.size()}, moments.v.view());
    }
    tensors.expect_all_read();
    trainer.set_completed_steps(completed.get<Index>());
}

namespace detail {

/// The checkpoints below `root`, oldest first; none if there is no such directory.
[[nodiscard]] inline std::vector<std::pair<Index, std::filesystem::path>> list_checkpoints(
    const std::filesystem::path& root) {
    std::vector<std::pair<Index, std::filesystem::path>> found;
    std::error_code error;
    for (auto entry = std::filesystem::directory_iterator(root, error);
         !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (!name.starts_with(checkpoint_prefix)) {
            continue;
        }
        Index step = 0;
        const char* const end = name.data() + name.size();
        const auto parsed = std::from_chars(name.data() + checkpoint_prefix.size(), end, step);
        if (parsed.ec == std::errc{} && parsed.ptr == end) {
            found.emplace_back(step, entry->path());
        }
    }
    check<IoError>(!error || error == std::errc::no_such_file_or_directory, root.string(),
                   ": cannot be listed: ", error.message());
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace detail

/// Saves to root/step-<completed steps> and then removes all but the newest `keep` checkpoints.
/// Throws ConfigError if `keep` is less than 1 or `root` holds a checkpoint with more steps, which
/// belongs to another run; IoError naming the file and the cause. Older checkpoints then stay.
template <class A, Backend B, TokenStream D>
void save_checkpoint(Trainer<A, B, D>& trainer, const std::filesystem::path& root, Index keep = 2) {
    check<ConfigError>(keep >= 1, "mor::save_checkpoint: keep is ", keep, ", expected at least 1");
    std::error_code error;
    std::filesystem::create_directories(root, error);
    check<IoError>(!error, root.string(), ": cannot be created: ", error.message());
    auto checkpoints = detail::list_checkpoints(root);
    check<ConfigError>(checkpoints.empty() || checkpoints.back().first <= trainer.completed_steps(),
                       root.string(), ": holds a checkpoint of step ",
                       checkpoints.empty() ? 0 : checkpoints.back().first, ", this run is at step ",
                       trainer.completed_steps(), "; resume from it or save to another directory");
    save_training(trainer, root / (std::string{detail::checkpoint_prefix} +
                                   std::to_string(trainer.completed_steps())));
    checkpoints = detail::list_checkpoints(root);
    for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < checkpoints.size(); ++i) {
        std::filesystem::remove_all(checkpoints[i].second, error);
    }
}

/// The checkpoint below `root` with the most completed steps, if there is one. Throws IoError if
/// `root` is there but cannot be listed.
[[nodiscard]] inline std::optional<std::filesystem::path> latest_checkpoint(
    const std::filesystem::path& root) {
    const auto checkpoints = detail::list_checkpoints(root);
    if (checkpoints.empty()) {
        return std::nullopt;
    }
    return checkpoints.back().second;
}

}  // namespace mor
