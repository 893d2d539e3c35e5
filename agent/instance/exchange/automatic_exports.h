// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which requests of a target its source approves automatically: rules that each stand alone. Pure.

#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/instance/common/json.h"

namespace keyagent::instance {

struct AutomaticExport {
  std::vector<std::string> frequencies;
  std::vector<std::string> specifications;  // empty: all
  std::string until;                        // RFC 3339; empty: no end
  std::string by;                           // the user whose rights it uses
};
using AutomaticExports = std::vector<AutomaticExport>;

// As the store has them: the first rule, with the others in "also", which older programs ignore.
// An empty text has none.
AutomaticExports parse_automatic(const std::string& stored);
std::string serialize(const AutomaticExports& rules);

// Adds a rule beside the others, never to another user's or another frequency's: what together they
// allow is what each of them allows. Rules that have ended are removed. Throws Error{kUsage} beyond
// 64 rules.
void add_rule(AutomaticExports& rules, AutomaticExport rule, WallTime now);

// The first rule that covers such a request.
std::optional<std::size_t> covering_rule(const AutomaticExports& rules,
                                         const std::string& frequency,
                                         const std::vector<std::string>& specifications,
                                         WallTime now);

// After a one-time request of this rule.
void use_up(AutomaticExports& rules, std::size_t rule, const std::string& frequency);

}  // namespace keyagent::instance
