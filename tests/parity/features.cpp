// SPDX-License-Identifier: Apache-2.0
#include "parity/features.hpp"

#include <string_view>

namespace parity {

namespace {

using nlohmann::json;

class Missing {
public:
    void unless(bool built, std::string_view feature) {
        if (!built) {
            list_.append(list_.empty() ? "" : ", ").append(feature);
        }
    }
    /// The feature is a setting; other values than `built` are missing.
    void unless_equal(const json& section, const char* key, const json& built) {
        const json& value = section.at(key);
        unless(value == built, std::string{key} + " " + value.dump());
    }
    [[nodiscard]] const std::string& list() const { return list_; }

private:
    std::string list_;
};

void check_model(const json& model, Missing& missing) {
    missing.unless_equal(model, "hidden_act", "silu");
    missing.unless_equal(model, "rope_scaling", nullptr);
    missing.unless_equal(model, "attention_bias", false);
    missing.unless_equal(model, "mlp_bias", false);
    missing.unless_equal(model, "attention_dropout", 0.0);
}

void check_recursion(const json& recursive, bool routed, Missing& missing) {
    missing.unless_equal(recursive, "base_depth", nullptr);
    const json& sharing = recursive.at("sharing");
    const bool whole_block = sharing == "cycle" || sharing == "middle_cycle";
    const bool repeated = sharing == "sequence" || sharing == "middle_sequence";
    missing.unless(whole_block || (repeated && !routed),
                   std::string{routed ? "routed " : ""} + "sharing " + sharing.dump());
}

void check_expert_choice(const json& mor, Missing& missing) {
    missing.unless(mor.at("expert").at("cap_warmup_step").is_number(), "cap_warmup_step not given");
}

void check_routing(const json& mor, Missing& missing) {
    missing.unless_equal(mor, "rand_router", false);
    if (mor.at("type") == "expert") {
        check_expert_choice(mor, missing);
    } else {
        missing.unless(mor.at("type") == "token", "routing type " + mor.at("type").dump());
    }
}

}  // namespace

bool is_enabled(const json& config, const char* section) {
    const auto found = config.find(section);
    return found != config.end() && found->is_object() && found->at("enable").get<bool>();
}

std::string missing_features(const json& json) {
    Missing missing;
    const auto& config = json.at("config");
    const bool routed = is_enabled(config, "mor");
    check_model(json.at("model_config"), missing);
    if (is_enabled(config, "recursive")) {
        check_recursion(config.at("recursive"), routed, missing);
    }
    if (routed) {
        check_routing(config.at("mor"), missing);
    }
    return missing.list();
}

}  // namespace parity
