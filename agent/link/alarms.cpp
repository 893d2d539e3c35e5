// SPDX-License-Identifier: Apache-2.0
#include "agent/link/alarms.h"

#include <string>

namespace keyagent::link {

void Alarms::add(const keys::KeyEvent& alarm) {
  const MutexLock lock(mutex_);
  waiting_.push_back(alarm);
  if (waiting_.size() <= kMaxWaiting) return;
  waiting_.pop_front();
  ++dropped_;
}

void Alarms::deliver(const UplinkHandlers::Send& send) {
  const MutexLock lock(mutex_);
  while (!waiting_.empty()) {
    const auto& alarm = waiting_.front();
    const std::string earlier =
        dropped_ == 0 ? "" : " (and " + std::to_string(dropped_) + " earlier alarms)";
    send({{"type", "event"},
          {"outcome", "alarm"},
          {"action", alarm.what},
          {"subject", alarm.key.empty() ? alarm.kid : alarm.key},
          {"text", alarm.detail + earlier}});
    waiting_.pop_front();
    dropped_ = 0;
  }
}

}  // namespace keyagent::link
