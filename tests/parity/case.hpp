// SPDX-License-Identifier: Apache-2.0
//
// A case: one model of the authors' code with its weights, a batch, and every number that their
// code computed from them.
#pragma once

#include <mor/io/safetensors.hpp>
#include <mor/model/config.hpp>
#include <mor/recursion/capacity_schedule.hpp>
#include <mor/routing/expert_choice.hpp>
#include <mor/routing/token_choice.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace parity {

using mor::Index;
using mor::TokenId;

enum class Sharing { none, cycle, middle_cycle, sequence, middle_sequence };
enum class Network { linear, mlp };
enum class Cache { recursion_wise, recursive_sharing, hybrid };
enum class Relaxation { none, unshared_norms, recursion_encoding, adaption_prompt };
enum class Routing { none, expert_choice, token_choice };

struct Case {
    std::string name;
    mor::io::SafetensorsFile tensors;
    std::string missing_feature;  // what the case needs and the library has not; usually empty

    // Only if nothing is missing:
    mor::ModelConfig model = {};
    Sharing sharing = Sharing::none;
    Routing routing = Routing::none;
    Cache cache = Cache::recursion_wise;
    Relaxation relaxation = Relaxation::none;
    Index num_recursions = 0;
    Network network = Network::linear;
    bool has_auxiliary_router = false;
    bool is_loss_free = false;
    mor::ExpertChoice::Options expert_choice = {};
    mor::TokenChoice::Options token_choice = {};
    mor::CapacitySchedule::Options schedule = {};
    Index top_level_layers = 0;  // as the authors count them: see names.hpp
    Index training_step = 0;
    Index num_items = 0;  // what the summed cross-entropy is divided by
    bool decodes = false;

    Index num_sequences = 0;
    Index length = 0;
    std::vector<TokenId> tokens = {};   // [num_sequences * length]
    std::vector<TokenId> targets = {};  // the next token, or -1
};

/// The safetensors files of a directory, sorted. Throws mor::IoError if it is no directory.
[[nodiscard]] std::vector<std::filesystem::path> find_cases(const std::filesystem::path& directory);

/// Reads NAME.safetensors and NAME.json beside it. Throws if either is missing or malformed.
[[nodiscard]] Case load_case(const std::filesystem::path& safetensors);

}  // namespace parity
