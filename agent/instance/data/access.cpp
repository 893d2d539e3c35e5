// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/data/access.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "agent/base/encoding.h"
#include "agent/base/error.h"
#include "agent/base/ids.h"
#include "agent/instance/common/users.h"

namespace keyagent::instance {
namespace {

constexpr std::array<std::pair<DataUse, std::string_view>, 3> kUses{
    {{DataUse::kEncrypt, "encrypt"},
     {DataUse::kDecrypt, "decrypt"},
     {DataUse::kExchange, "exchange"}}};
constexpr std::array<std::pair<Effect, std::string_view>, 3> kEffects{
    {{Effect::kAllow, "allow"}, {Effect::kTrack, "track"}, {Effect::kReject, "reject"}}};
constexpr std::size_t kMaxRules = 64, kMaxNames = 256;

template <class Table>
auto named(const Table& table, std::string_view name) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const auto& each) { return each.second == name; });
  return found == table.end() ? std::nullopt : std::optional(found->first);
}

template <class Table, class Value>
std::string_view name_in(const Table& table, Value value) {
  return std::find_if(table.begin(), table.end(),
                      [&](const auto& each) { return each.first == value; })
      ->second;
}

template <class List, class Value>
bool contains(const List& list, const Value& value) {
  return std::find(std::begin(list), std::end(list), value) != std::end(list);
}

void check_members(const Json& rule) {
  static const std::set<std::string> kKnown{"rule", "effect", "uses", "roles", "users"};
  for (const auto& [name, value] : rule.items()) {
    if (!kKnown.contains(name))
      throw Error(Code::kUsage, "a rule has the unknown member '" + escape_controls(name) + "'");
  }
}

AccessRule read_rule(const Json& json) {
  if (!json.is_object()) throw Error(Code::kUsage, "'access' must be a list of rules");
  check_members(json);
  AccessRule rule;
  rule.name = text_of(json, "rule");
  if (!KeyName::parse(rule.name) || rule.name == "default")
    throw Error(Code::kUsage,
                "a rule name must match [a-z0-9][a-z0-9._-]{0,62} and must not be 'default'");
  const auto effect = named(kEffects, text_of(json, "effect"));
  if (!effect)
    throw Error(Code::kUsage, "rule " + rule.name + ": 'effect' must be allow, track or reject");
  rule.effect = *effect;
  for (const auto& each : texts_of(json, "uses")) {
    const auto use = data_use_of(each);
    if (!use)
      throw Error(Code::kUsage,
                  "rule " + rule.name + ": 'uses' may be encrypt, decrypt and exchange");
    rule.uses.push_back(*use);
  }
  rule.roles = texts_of(json, "roles");
  rule.users = texts_of(json, "users");
  for (const auto& role : rule.roles) {
    if (!role_of(role))
      throw Error(Code::kUsage,
                  "rule " + rule.name + ": unknown role '" + escape_controls(role) + "'");
  }
  if (rule.uses.empty() || (rule.roles.empty() && rule.users.empty()))
    throw Error(Code::kUsage, "rule " + rule.name + " needs 'uses', and 'roles' or 'users'");
  if (rule.roles.size() + rule.users.size() > kMaxNames)
    throw Error(Code::kUsage, "rule " + rule.name + " names more than 256 roles and users");
  return rule;
}

bool is_about(const AccessRule& rule, DataUse use, std::string_view role, const std::string& user) {
  return contains(rule.uses, use) && (contains(rule.roles, role) || contains(rule.users, user));
}

// The roles and users that rules of one effect name for a use.
std::set<std::string> named_by(const std::vector<AccessRule>& rules, DataUse use, bool rejecting) {
  std::set<std::string> out;
  for (const auto& rule : rules) {
    if ((rule.effect == Effect::kReject) != rejecting || !contains(rule.uses, use)) continue;
    for (const auto& role : rule.roles) out.insert("role " + role);
    for (const auto& user : rule.users) out.insert("user " + user);
  }
  return out;
}

}  // namespace

std::string_view name_of(DataUse use) {
  return name_in(kUses, use);
}

std::optional<DataUse> data_use_of(std::string_view name) {
  return named(kUses, name);
}

std::string_view name_of(Effect effect) {
  return name_in(kEffects, effect);
}

std::vector<AccessRule> read_access(const Json& list) {
  if (list.is_null()) return {};
  if (!list.is_array() || list.size() > kMaxRules)
    throw Error(Code::kUsage, "'access' must be a list of at most 64 rules");
  std::vector<AccessRule> rules;
  std::set<std::string> names;
  for (const auto& each : list) {
    rules.push_back(read_rule(each));
    if (!names.insert(rules.back().name).second)
      throw Error(Code::kUsage, "two rules have the name " + rules.back().name);
  }
  return rules;
}

Json access_json(const std::vector<AccessRule>& rules) {
  Json out = Json::array();
  for (const auto& rule : rules) {
    Json uses = Json::array();
    for (const auto use : rule.uses) uses.push_back(name_of(use));
    out.push_back({{"rule", rule.name},
                   {"effect", name_of(rule.effect)},
                   {"uses", uses},
                   {"roles", rule.roles},
                   {"users", rule.users}});
  }
  return out;
}

bool gives_access(const std::vector<AccessRule>& before, const std::vector<AccessRule>& after) {
  const auto includes = [](const auto& all, const auto& some) {
    return std::includes(all.begin(), all.end(), some.begin(), some.end());
  };
  for (const auto use : {DataUse::kDecrypt, DataUse::kExchange}) {
    if (!includes(named_by(before, use, false), named_by(after, use, false)) ||
        !includes(named_by(after, use, true), named_by(before, use, true)))
      return true;
  }
  return false;
}

AccessDecision decide(const std::vector<AccessRule>& rules, DataUse use, std::string_view role,
                      const std::string& user) {
  // By weight: reject, track, allow.
  for (const auto effect : {Effect::kReject, Effect::kTrack, Effect::kAllow}) {
    for (const auto& rule : rules) {
      if (rule.effect != effect || !is_about(rule, use, role, user)) continue;
      return {effect != Effect::kReject, effect == Effect::kTrack, rule.name};
    }
  }
  return {false, false, "default"};
}

}  // namespace keyagent::instance
