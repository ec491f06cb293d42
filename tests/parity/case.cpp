// SPDX-License-Identifier: Apache-2.0
#include "parity/case.hpp"

#include "parity/features.hpp"
#include <mor/core/error.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

namespace parity {

namespace {

using nlohmann::json;

json read_json(const std::filesystem::path& path) {
    std::ifstream file{path};
    mor::check<mor::IoError>(file.is_open(), path.string(), ": cannot be opened");
    return json::parse(file);
}

/// The recursive models of the authors' code leave the head untied whatever the configuration
/// says, so only the list of tied parameters tells.
mor::ModelConfig read_model(const json& model, const json& aliases) {
    return {.vocab_size = model.at("vocab_size"),
            .hidden_size = model.at("hidden_size"),
            .intermediate_size = model.at("intermediate_size"),
            .num_layers = model.at("num_hidden_layers"),
            .num_heads = model.at("num_attention_heads"),
            .num_kv_heads = model.at("num_key_value_heads"),
            .head_dim = model.at("head_dim"),
            .max_positions = model.at("max_position_embeddings"),
            .rope_theta = model.at("rope_theta"),
            .rms_norm_epsilon = model.at("rms_norm_eps"),
            .initializer_range = model.at("initializer_range"),
            .tie_embeddings = aliases.contains("model.embed_tokens.weight")};
}

Sharing read_sharing(const std::string& word) {
    constexpr std::pair<std::string_view, Sharing> words[] = {
        {"cycle", Sharing::cycle},
        {"middle_cycle", Sharing::middle_cycle},
        {"sequence", Sharing::sequence},
        {"middle_sequence", Sharing::middle_sequence}};
    for (const auto& [known, sharing] : words) {
        if (known == word) {
            return sharing;
        }
    }
    mor::fail<mor::ConfigError>("unknown sharing '", word, "'");
}

/// "1.0,0.5" -> 1, 0.5
std::vector<double> read_numbers(const std::string& text) {
    std::vector<double> numbers;
    std::istringstream words{text};
    for (std::string word; std::getline(words, word, ',');) {
        numbers.push_back(std::stod(word));
    }
    return numbers;
}

mor::GateFunction read_gate(const json& function) {
    for (const mor::GateFunction known : enum_values(mor::GateFunction{})) {
        if (!function.is_null() && to_string(known) == function.get<std::string>()) {
            return known;
        }
    }
    return mor::GateFunction::identity;
}

void read_expert_choice(const json& mor, const json& expert, Case& out) {
    out.routing = Routing::expert_choice;
    out.has_auxiliary_router = expert.at("sampling") == "aux_router";
    out.expert_choice.gate = read_gate(expert.at("router_func"));
    out.expert_choice.alpha = expert.at("alpha");
    out.expert_choice.temperature = mor.at("temp");
    out.expert_choice.weighted = expert.at("gating") == "weighted";
    out.expert_choice.causality.coefficient = expert.at("coeff");
    out.schedule.capacities = read_numbers(mor.at("capacity"));
    out.schedule.warmup_steps = expert.at("cap_warmup_step");
}

void read_token_choice(const json& mor, const json& token, Case& out) {
    out.routing = Routing::token_choice;
    out.is_loss_free = token.at("balancing") == "loss_free";
    out.token_choice.gate = read_gate(token.at("router_func"));
    out.token_choice.alpha = token.at("alpha");
    out.token_choice.temperature = mor.at("temp");
    out.token_choice.weighted = token.at("gating") == "weighted";
    out.token_choice.balancing.coefficient = token.at("coeff");
    out.token_choice.balancing_warmup = token.at("bal_warmup_step");
}

void read_routing(const json& mor, Case& out) {
    out.network = mor.at("router_type") == "linear" ? Network::linear : Network::mlp;
    if (mor.at("type") == "expert") {
        read_expert_choice(mor, mor.at("expert"), out);
    } else {
        read_token_choice(mor, mor.at("token"), out);
    }
    if (mor.at("z_loss").get<bool>()) {
        out.expert_choice.z_coefficient = mor.at("z_coeff");
        out.token_choice.z_coefficient = mor.at("z_coeff");
    }
}

/// The configuration tells of norms; the other relaxations only show in their parameters.
Relaxation read_relaxation(const json& recursive, const mor::io::SafetensorsFile& tensors) {
    const auto has = [&tensors](std::string_view word) {
        return std::any_of(
            tensors.tensors().begin(), tensors.tensors().end(),
            [word](const auto& tensor) { return tensor.first.find(word) != std::string::npos; });
    };
    if (!recursive.at("ln_share").get<bool>()) {
        return Relaxation::unshared_norms;
    }
    if (has("recursion_encoding")) {
        return Relaxation::recursion_encoding;
    }
    return has("adaption_prompt") ? Relaxation::adaption_prompt : Relaxation::none;
}

/// Labels are not shifted, and -100 where they are to be ignored.
void read_batch(Case& out) {
    const auto* const input = out.tensors.find("input_ids");
    mor::check<mor::IoError>(input != nullptr && input->shape.size() == 2,
                             "no tensor 'input_ids' of rank 2");
    out.num_sequences = input->shape[0];
    out.length = input->shape[1];
    const auto input_ids = out.tensors.read_as<std::int64_t>("input_ids");
    const auto labels = out.tensors.read_as<std::int64_t>("labels");
    mor::check<mor::IoError>(labels.size() == input_ids.size(), "as many labels as input_ids");
    for (std::size_t i = 0; i < input_ids.size(); ++i) {
        const bool is_last = (static_cast<Index>(i) + 1) % out.length == 0;
        out.tokens.push_back(static_cast<TokenId>(input_ids[i]));
        out.targets.push_back(is_last ? -1
                                      : static_cast<TokenId>(std::max<Index>(-1, labels[i + 1])));
    }
}

}  // namespace

std::vector<std::filesystem::path> find_cases(const std::filesystem::path& directory) {
    mor::check<mor::IoError>(std::filesystem::is_directory(directory), directory.string(),
                             ": is not a directory");
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator{directory}) {
        if (entry.path().extension() == ".safetensors") {
            found.push_back(entry.path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

Case load_case(const std::filesystem::path& safetensors) {
    const json json = read_json(std::filesystem::path{safetensors}.replace_extension(".json"));
    mor::io::SafetensorsFile tensors{safetensors};
    std::string missing = missing_features(json);
    Case out{.name = safetensors.stem().string(),
             .tensors = std::move(tensors),
             .missing_feature = std::move(missing)};
    if (!out.missing_feature.empty()) {
        return out;
    }
    const auto& config = json.at("config");
    out.model = read_model(json.at("model_config"), json.at("aliases"));
    if (is_enabled(config, "recursive")) {
        out.sharing = read_sharing(config.at("recursive").at("sharing"));
        out.num_recursions = config.at("recursive").at("num_recursion");
        out.relaxation = read_relaxation(config.at("recursive"), out.tensors);
    }
    if (is_enabled(config, "kv_sharing")) {
        out.cache = config.at("kv_sharing").at("update_cache").get<bool>()
                        ? Cache::hybrid
                        : Cache::recursive_sharing;
    }
    if (is_enabled(config, "mor")) {
        read_routing(config.at("mor"), out);
    }
    out.top_level_layers = json.at("num_top_level_layers");
    out.training_step = json.at("training_step_in_train_forward");
    out.num_items = json.at("num_items_in_batch");
    out.decodes = json.at("incremental_decoding").at("works") != false;
    read_batch(out);
    return out;
}

}  // namespace parity
