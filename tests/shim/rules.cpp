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
  if (name == "n" || name == "from" || name == "every") {
    rule.when = name == "n"      ? Rule::When::kNth
                : name == "from" ? Rule::When::kFrom
                                 : Rule::When::kEvery;
    rule.number = value;
    return value > 0;
  }
  static const std::pair<const char*, Rule::Action> kActions[] = {
      {"rv", Rule::Action::kRv},     {"delay", Rule::Action::kDelay}, {"hang", Rule::Action::kHang},
      {"flip", Rule::Action::kFlip}, {"zero", Rule::Action::kZero},   {"segv", Rule::Action::kSegv},
      {"kill", Rule::Action::kKill}};
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
  std::getline(parts, rule.function, ':');
  rule.function = trim(rule.function);
  bool acts = false;
  for (std::string part; std::getline(parts, part, ':');) {
    if (!apply_part(rule, trim(part), acts)) return std::nullopt;
  }
  if (!acts || rule.function.rfind("C_", 0) != 0) return std::nullopt;
  return rule;
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
    case Rule::When::kEvery:
      break;
  }
  return rule.calls % rule.number == 0;
}

}  // namespace keyagent::shim
