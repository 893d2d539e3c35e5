#pragma once
// JSON as JOSE needs it (RFC 7515 §4, §10.12): one object, no name twice at any depth, bounded.
// Internal to this room.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace keyagent::envelope {

inline constexpr std::size_t kMaxJson = 16 * 1024;  // bytes
inline constexpr std::size_t kMaxJsonDepth = 8;

// nullopt for anything but exactly one JSON object within the limits whose names are all different.
std::optional<nlohmann::json> parse_strict_object(std::string_view text);

// The member's text; nullopt when it is absent or not a string.
std::optional<std::string> text_member(const nlohmann::json& object, const char* name);

}  // namespace keyagent::envelope
