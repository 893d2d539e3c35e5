// SPDX-License-Identifier: Apache-2.0
#pragma once
// The JSON of JOSE's headers and keys. Internal to this room.

#include <string>

#include "agent/base/strict_json.h"

namespace keyagent::envelope {

inline constexpr JsonLimits kJoseJson{16 * 1024, 8};

// The member's text; nullopt when it is absent or not a string.
inline std::optional<std::string> text_member(const nlohmann::json& object, const char* name) {
  const auto it = object.find(name);
  if (it == object.end() || !it->is_string()) return std::nullopt;
  return it->get<std::string>();
}

}  // namespace keyagent::envelope
