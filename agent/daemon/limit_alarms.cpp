// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/limit_alarms.h"

#include <map>

#include "agent/base/error.h"
#include "agent/wire/diagnosis.h"

namespace keyagent::daemon {

void LimitAlarms::check(const std::vector<LimitUsage>& usage) {
  // A limit per user counts as low when it is low for all users.
  std::map<std::string, bool> low;
  for (const auto& each : usage) {
    const auto [known, first] = low.emplace(each.limit, each.low());
    if (!first) known->second = known->second && each.low();
  }
  for (const auto& [limit, is_low] : low)
    if (is_low) high_.erase(limit);
  for (const auto& each : usage) {
    if (!each.high() || !high_.insert(each.limit).second) continue;
    tell_({each.retention ? keys::KeyEvent::Weight::kWarning : keys::KeyEvent::Weight::kAlarm,
           "limit.high",
           {},
           {},
           "internal:limits",
           std::string(code_name(Code::kKeyState)),
           each.text() + "; " + each.cure});
  }
  std::erase_if(high_, [&](const auto& limit) { return !low.contains(limit); });
}

std::vector<wire::Diagnosis> diagnose_limits(const std::vector<LimitUsage>& usage) {
  std::vector<wire::Diagnosis> out;
  for (const auto& each : usage) {
    if (!each.high()) continue;
    out.push_back(wire::make_diagnosis(
        each.retention ? finding_kind("limit-retention") : finding_kind("limit-high"), each.text(),
        {{"fix", each.cure}}, each.limit));
  }
  return out;
}

}  // namespace keyagent::daemon
