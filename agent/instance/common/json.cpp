// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/common/json.h"

#include <algorithm>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/strict_json.h"

namespace keyagent::instance {
namespace {

constexpr JsonLimits kLimits{1 << 20, 16};

[[noreturn]] void refuse(const char* name, const char* what) {
  throw Error(Code::kUsage, std::string("'") + name + "' " + what);
}

const Json* find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

Json parse_object(std::string_view text) {
  // Leading white space is accepted, for bodies written by people.
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  auto parsed = parse_strict_object<Json>(text, kLimits);
  if (!parsed) throw Error(Code::kUsage, "the body is not a JSON object, or exceeds 1 MiB");
  return std::move(*parsed);
}

std::string text_of(const Json& object, const char* name) {
  const auto* value = find(object, name);
  if (value == nullptr) refuse(name, "is missing");
  if (!value->is_string()) refuse(name, "must be a string");
  return value->get<std::string>();
}

std::string text_of(const Json& object, const char* name, const std::string& otherwise) {
  return find(object, name) == nullptr ? otherwise : text_of(object, name);
}

bool flag_of(const Json& object, const char* name, bool otherwise) {
  const auto* value = find(object, name);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(name, "must be true or false");
  return value->get<bool>();
}

std::int64_t number_of(const Json& object, const char* name, std::int64_t otherwise,
                       std::int64_t least, std::int64_t most) {
  const auto* value = find(object, name);
  if (value == nullptr) return otherwise;
  if (!value->is_number_integer()) refuse(name, "must be a whole number");
  const auto number = value->get<std::int64_t>();
  if (number < least || number > most)
    throw Error(Code::kUsage, std::string("'") + name + "' must be between " +
                                  std::to_string(least) + " and " + std::to_string(most));
  return number;
}

std::vector<std::string> texts_of(const Json& object, const char* name) {
  std::vector<std::string> out;
  const auto* value = find(object, name);
  if (value == nullptr) return out;
  if (!value->is_array()) refuse(name, "must be a list of strings");
  for (const auto& each : *value) {
    if (!each.is_string()) refuse(name, "must be a list of strings");
    out.push_back(each.get<std::string>());
  }
  return out;
}

Bytes bytes_of(const Json& object, const char* name) {
  const auto bytes = from_base64url(text_of(object, name));
  if (!bytes) refuse(name, "must be base64url without padding");
  return *bytes;
}

Json time_json(WallTime time) {
  return time == WallTime{} ? Json() : Json(rfc3339(time));
}

}  // namespace keyagent::instance
