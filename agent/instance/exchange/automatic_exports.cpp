// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/exchange/automatic_exports.h"

#include <algorithm>

#include "agent/base/error.h"

namespace keyagent::instance {
namespace {

constexpr std::size_t kMaxAutomatic = 64;
constexpr const char* kOneTimeClone = "one-time-clone";

bool lists_value(const std::vector<std::string>& list, const std::string& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool rule_has_ended(const AutomaticExport& rule, WallTime now) {
  return rule.frequencies.empty() || (!rule.until.empty() && parse_rfc3339(rule.until) <= now);
}

bool covers(const AutomaticExport& rule, const std::vector<std::string>& specifications) {
  return rule.specifications.empty() ||
         (!specifications.empty() &&
          std::all_of(specifications.begin(), specifications.end(),
                      [&](const auto& each) { return lists_value(rule.specifications, each); }));
}

AutomaticExport read_automatic(const Json& object) {
  return {texts_of(object, "frequencies"), texts_of(object, "specifications"),
          text_of(object, "until", ""), text_of(object, "by", "")};
}

Json automatic_json(const AutomaticExport& rule) {
  return {{"frequencies", rule.frequencies},
          {"specifications", rule.specifications},
          {"until", rule.until},
          {"by", rule.by}};
}

}  // namespace

AutomaticExports parse_automatic(const std::string& stored) {
  if (stored.empty()) return {};
  const Json object = parse_object(stored);
  AutomaticExports rules{read_automatic(object)};
  const auto also = object.find("also");
  if (also == object.end() || !also->is_array()) return rules;
  for (const auto& each : *also) rules.push_back(read_automatic(each));
  return rules;
}

std::string serialize(const AutomaticExports& rules) {
  if (rules.empty()) return {};
  Json out = automatic_json(rules.front());
  for (std::size_t i = 1; i < rules.size(); ++i) out["also"].push_back(automatic_json(rules[i]));
  return out.dump();
}

void add_rule(AutomaticExports& rules, AutomaticExport rule, WallTime now) {
  std::erase_if(rules, [&](const auto& each) { return rule_has_ended(each, now); });
  for (auto& each : rules) {
    const bool alike =
        each.by == rule.by && each.frequencies == rule.frequencies && each.until == rule.until;
    if (alike && covers(each, rule.specifications)) return;
    // A one-time rule is used up as a whole: each stays separate.
    if (!alike || lists_value(each.frequencies, kOneTimeClone)) continue;
    if (rule.specifications.empty()) each.specifications.clear();
    for (const auto& name : rule.specifications) {
      if (!lists_value(each.specifications, name)) each.specifications.push_back(name);
    }
    return;
  }
  if (rules.size() >= kMaxAutomatic)
    throw Error(Code::kUsage,
                "the peer has " + std::to_string(kMaxAutomatic) +
                    " rules for automatic approval; replace them by fewer: keyagent instance peer "
                    "automatic NAME");
  rules.push_back(std::move(rule));
}

std::optional<std::size_t> covering_rule(const AutomaticExports& rules,
                                         const std::string& frequency,
                                         const std::vector<std::string>& specifications,
                                         WallTime now) {
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (!rule_has_ended(rules[i], now) && lists_value(rules[i].frequencies, frequency) &&
        covers(rules[i], specifications))
      return i;
  }
  return std::nullopt;
}

void use_up(AutomaticExports& rules, std::size_t rule, const std::string& frequency) {
  std::erase(rules[rule].frequencies, frequency);
  if (rules[rule].frequencies.empty())
    rules.erase(rules.begin() + static_cast<std::ptrdiff_t>(rule));
}

}  // namespace keyagent::instance
