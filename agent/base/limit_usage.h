// SPDX-License-Identifier: Apache-2.0
#pragma once
// How much of a limit is used, for the warnings at 80 %.

#include <cstdint>
#include <string>

namespace keyagent {

struct LimitUsage {
  std::string limit;    // as in keyagentd.yml: "limits.census-rows"
  std::string subject;  // whose, where each has its own: "uid 1000"; may be empty
  std::uint64_t used = 0, max = 0;
  std::string cure;
  bool retention = false;  // beyond it the oldest are forgotten, and nothing is refused

  bool high() const { return used * 10 >= max * 8; }
  bool low() const { return used * 10 < max * 7; }
  std::string text() const {
    return limit + (subject.empty() ? "" : " (" + subject + ")") + ": " + std::to_string(used) +
           " of at most " + std::to_string(max) +
           (retention ? " are kept; the oldest are forgotten beyond" : " are used");
  }
};

}  // namespace keyagent
