// SPDX-License-Identifier: Apache-2.0
#include "agent/link/answer.h"

#include "agent/base/error.h"
#include "agent/base/strict_json.h"

namespace keyagent::link {
namespace {

constexpr JsonLimits kLimits{8 << 20, 16};

[[noreturn]] void refuse(const std::string& why) {
  throw Error(Code::kPeer, "the instance's response is invalid: " + why);
}

std::string text_in(const nlohmann::json& value, const char* name) {
  if (!value.is_string()) refuse(std::string("'") + name + "' is not a string");
  return value.get<std::string>();
}

}  // namespace

Answer::Answer(const std::string& text)
    : Answer(parse_strict_object(text, kLimits).value_or(nlohmann::json())) {}

Answer::Answer(nlohmann::json object) : object_(std::move(object)) {
  if (!object_.is_object()) refuse("it is not a JSON object");
}

const nlohmann::json& Answer::member(const char* name) const {
  const auto found = object_.find(name);
  if (found == object_.end()) refuse(std::string("'") + name + "' is missing");
  return *found;
}

bool Answer::has(const char* name) const {
  return object_.contains(name);
}

bool Answer::is_null(const char* name) const {
  return member(name).is_null();
}

std::string Answer::text(const char* name) const {
  return text_in(member(name), name);
}

std::string Answer::text_or(const char* name, const std::string& otherwise) const {
  return has(name) ? text(name) : otherwise;
}

std::uint64_t Answer::number(const char* name) const {
  const auto& value = member(name);
  if (!value.is_number_unsigned()) refuse(std::string("'") + name + "' is not a number");
  return value.get<std::uint64_t>();
}

std::uint64_t Answer::number_or(const char* name, std::uint64_t otherwise) const {
  return has(name) ? number(name) : otherwise;
}

bool Answer::flag(const char* name) const {
  const auto& value = member(name);
  if (!value.is_boolean()) refuse(std::string("'") + name + "' is neither true nor false");
  return value.get<bool>();
}

double Answer::seconds(const char* name) const {
  const auto& value = member(name);
  if (!value.is_number()) refuse(std::string("'") + name + "' is not a number");
  return value.get<double>();
}

nlohmann::json Answer::id(const char* name) const {
  const auto& value = member(name);
  if (!value.is_string() && !value.is_number_integer())
    refuse(std::string("'") + name + "' is not an identifier");
  return value;
}

Answer Answer::object(const char* name) const {
  return Answer(member(name));
}

std::vector<Answer> Answer::objects(const char* name) const {
  const auto& list = member(name);
  if (!list.is_array()) refuse(std::string("'") + name + "' is not a list");
  return {list.begin(), list.end()};
}

std::vector<std::string> Answer::texts(const char* name) const {
  const auto& list = member(name);
  if (!list.is_array()) refuse(std::string("'") + name + "' is not a list");
  std::vector<std::string> out;
  for (const auto& each : list) out.push_back(text_in(each, name));
  return out;
}

std::string Answer::dump() const {
  return object_.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace keyagent::link
