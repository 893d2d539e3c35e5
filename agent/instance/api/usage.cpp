// SPDX-License-Identifier: Apache-2.0
#include "agent/instance/api/usage.h"

#include "agent/store/agents.h"
#include "agent/store/enrollments.h"
#include "agent/store/events.h"

namespace keyagent::instance {

std::vector<UsageLine> Usage::read() {
  const auto now = clock_.now();
  const auto pending = static_cast<std::int64_t>(store_.enrollments().pending({}, now).size());
  return {{"agents", store_.agents().count(), limits_.agents},
          {"tokens", store_.enrollments().count_tokens(now), limits_.tokens},
          {"pending", pending, limits_.pending},
          {"events", store_.events().count("done"), limits_.events},
          {"refusals", store_.events().count("refused"), limits_.refusals},
          {"alarms", store_.events().count("alarm"), limits_.alarms}};
}

void Usage::check() {
  for (const auto& [limit, count, most] : read()) {
    {
      const MutexLock lock(mutex_);
      if (count * 10 < most * 7) alarmed_.erase(limit);
      if (count * 10 < most * 8 || !alarmed_.insert(limit).second) continue;
    }
    recorder_.record(Outcome::kAlarm, "instance", "limits", limit,
                     std::to_string(count) + " of " + std::to_string(most) + ": raise limits." +
                         limit + " in keyinstanced.yml, or find the cause");
  }
}

void Usage::forget() {
  const auto now = clock_.now();
  std::int64_t gone = 0;
  gone += store_.events().forget("done", limits_.events, now - limits_.event_time);
  gone += store_.events().forget("refused", limits_.refusals, now - limits_.event_time);
  gone += store_.events().forget("alarm", limits_.alarms, now - limits_.alarm_time);
  store_.forget_history(now - limits_.event_time);
  if (gone > 0)
    recorder_.record(Outcome::kDone, "instance", "events.forget", "",
                     std::to_string(gone) + " events beyond their limits");
}

}  // namespace keyagent::instance
