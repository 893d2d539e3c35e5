// SPDX-License-Identifier: Apache-2.0
#include "tests/shim/rules.h"

#include <cstdlib>
#include <sstream>

namespace keyagent::shim {
namespace {

std::string trim(const std::string& text) {
  const auto first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \n\t") - first + 1);
}

bool apply_part(Rule& rule, const std::string& part, bool& acts) {
  const auto equals = part.find('=');
  const std::string name = part.substr(0, equals);
  const unsigned long value =
      equals == std::string::npos ? 0 : std::strtoul(part.c_str() + equals + 1, nullptr, 0);
  if (name == "after") {
    rule.after = true;
    return true;
  }
  static const std::pair<const char*, Rule::When> kWhens[] = {{"n", Rule::When::kNth},
                                                              {"from", Rule::When::kFrom},
                                                              {"every", Rule::When::kEvery},
                                                              {"chance", Rule::When::kChance}};
  for (const auto& [word, when] : kWhens) {
    if (name != word) continue;
    rule.when = when;
    rule.number = value;
    return value > 0;
  }
  static const std::pair<const char*, Rule::Action> kActions[] = {
      {"rv", Rule::Action::kRv},       {"delay", Rule::Action::kDelay},
      {"hang", Rule::Action::kHang},   {"flip", Rule::Action::kFlip},
      {"zero", Rule::Action::kZero},   {"size", Rule::Action::kSize},
      {"leak", Rule::Action::kLeak},   {"meddle", Rule::Action::kMeddle},
      {"fork", Rule::Action::kFork},   {"extractable", Rule::Action::kLoose},
      {"flags", Rule::Action::kFlags}, {"reach", Rule::Action::kReach},
      {"segv", Rule::Action::kSegv},   {"kill", Rule::Action::kKill}};
  for (const auto& [word, action] : kActions) {
    if (name != word) continue;
    rule.action = action;
    rule.value = value;
    acts = true;
    return true;
  }
  return false;
}

std::optional<Rule> parse_rule(const std::string& text) {
  std::istringstream parts(text);
  Rule rule;
  for (const char c : text) rule.dice = (rule.dice ^ static_cast<unsigned char>(c)) * 16777619U;
  rule.dice |= 1;  // xorshift never leaves zero
  std::getline(parts, rule.function, ':');
  rule.function = trim(rule.function);
  bool acts = false;
  for (std::string part; std::getline(parts, part, ':');) {
    if (!apply_part(rule, trim(part), acts)) return std::nullopt;
  }
  if (!acts || rule.function.rfind("C_", 0) != 0) return std::nullopt;
  return rule;
}

// xorshift32 (Marsaglia 2003): faults that fall irregularly, and fall the same way each time.
bool falls(Rule& rule) {
  rule.dice ^= rule.dice << 13;
  rule.dice ^= rule.dice >> 17;
  rule.dice ^= rule.dice << 5;
  return rule.dice % 1000 < rule.number;
}

}  // namespace

std::optional<std::vector<Rule>> parse_rules(const std::string& text) {
  std::vector<Rule> rules;
  std::istringstream all(text);
  for (std::string one; std::getline(all, one, ';');) {
    if (trim(one).empty()) continue;
    const auto rule = parse_rule(one);
    if (!rule) return std::nullopt;
    rules.push_back(*rule);
  }
  return rules;
}

bool strikes(Rule& rule) {
  ++rule.calls;
  switch (rule.when) {
    case Rule::When::kNth:
      return rule.calls == rule.number;
    case Rule::When::kFrom:
      return rule.calls >= rule.number;
    case Rule::When::kChance:
      return falls(rule);
    case Rule::When::kEvery:
      break;
  }
  return rule.calls % rule.number == 0;
}

}  // namespace keyagent::shim
