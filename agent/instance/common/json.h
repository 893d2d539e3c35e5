// SPDX-License-Identifier: Apache-2.0
#pragma once
// JSON from outside, read strictly: what is missing or of another type is Error{kUsage} that names
// it. Internal to this room.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/bytes.h"
#include "agent/base/clock.h"

namespace keyagent::instance {

using Json = nlohmann::ordered_json;

// An object, at most 1 MiB and 16 levels deep, no name twice.
Json parse_object(std::string_view text);
std::string text_of(const Json& object, const char* name);
std::string text_of(const Json& object, const char* name, const std::string& otherwise);
bool flag_of(const Json& object, const char* name, bool otherwise);
std::int64_t number_of(const Json& object, const char* name, std::int64_t otherwise,
                       std::int64_t least, std::int64_t most);
std::vector<std::string> texts_of(const Json& object, const char* name);  // empty when absent
Bytes bytes_of(const Json& object, const char* name);                     // base64url
// RFC 3339, or null for the epoch.
Json time_json(WallTime time);

}  // namespace keyagent::instance
