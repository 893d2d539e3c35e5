// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which call is to be broken, and how. See README.md.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace keyagent::shim {

struct Rule {
  enum class When { kNth, kFrom, kEvery, kChance } when = When::kNth;
  enum class Action {
    kRv,
    kDelay,
    kHang,
    kFlip,
    kZero,
    kSize,
    kLeak,
    kMeddle,
    kFork,
    kLoose,
    kFlags,
    kReach,
    kSegv,
    kKill
  } action = Action::kRv;
  std::string function;
  unsigned long number = 1;
  bool after = false;
  unsigned long value = 0;  // the code, milliseconds, a length or a count of bytes
  unsigned long calls = 0;  // seen since the rule was set
  std::uint32_t dice = 1;   // of kChance: the same sequence for the same text
};

// nullopt when a rule does not parse.
std::optional<std::vector<Rule>> parse_rules(const std::string& text);
// Counts a call of the rule's function; true when this one is to be broken.
bool strikes(Rule& rule);

}  // namespace keyagent::shim
