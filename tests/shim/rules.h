#pragma once
// Which call is to be broken, and how. See README.md.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keyagent::shim {

struct Rule {
  enum class When { kNth, kFrom, kEvery } when = When::kNth;
  enum class Action { kRv, kDelay, kHang, kFlip, kZero, kSegv, kKill } action = Action::kRv;
  std::string function;
  unsigned long number = 1;
  bool after = false;
  unsigned long value = 0;  // the code, or milliseconds
  unsigned long calls = 0;  // seen since the rule was set
};

// nullopt when a rule does not parse.
std::optional<std::vector<Rule>> parse_rules(const std::string& text);
// Counts a call of the rule's function; true when this one is to be broken.
bool strikes(Rule& rule);

}  // namespace keyagent::shim
