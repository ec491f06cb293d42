// SPDX-License-Identifier: Apache-2.0
//
// What a case needs and the library does not have yet. Decided from the case's configuration, so
// that a case runs as soon as its features exist.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

namespace parity {

/// The missing features, separated by ", "; empty if there are none.
[[nodiscard]] std::string missing_features(const nlohmann::json& json);

/// Whether a section of the configuration is given and enabled; "(unused)" stands for no section.
[[nodiscard]] bool is_enabled(const nlohmann::json& config, const char* section);

}  // namespace parity
