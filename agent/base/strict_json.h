// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON from outside, as JOSE needs it (RFC 7515 §4, §10.12) and everything else may want it: one
// object, no name twice at any depth, bounded.

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

namespace keyagent {

struct JsonLimits {
  std::size_t bytes;
  std::size_t depth;  // of objects and lists in one another; the outermost is the first
};

// Is it exactly one JSON object, from its brace on, within the limits, whose names are all
// different? The parser alone would keep the last of two equal ones silently.
bool is_strict_object(std::string_view text, const JsonLimits& limits);

// nullopt for anything else. `Json`: nlohmann::json, or its ordered_json.
template <class Json = nlohmann::json>
std::optional<Json> parse_strict_object(std::string_view text, const JsonLimits& limits) {
  if (!is_strict_object(text, limits)) return std::nullopt;
  Json object = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!object.is_object()) return std::nullopt;
  return object;
}

}  // namespace keyagent
