// SPDX-License-Identifier: Apache-2.0
#pragma once
// Alarms of this agent on their way to its instance: kept until a link is there.

#include <cstddef>
#include <deque>

#include "agent/base/mutex.h"
#include "agent/keys/rekey_runner.h"
#include "agent/link/instance_connection.h"

namespace keyagent::link {

// Thread-safe. Bounded: of too many the oldest are dropped, and their number is sent.
class Alarms {
 public:
  void add(const keys::KeyEvent& alarm);
  // Sends what waits; an alarm that could not be sent waits on.
  void deliver(const UplinkHandlers::Send& send);

 private:
  static constexpr std::size_t kMaxWaiting = 64;
  Mutex mutex_;
  std::deque<keys::KeyEvent> waiting_ GUARDED_BY(mutex_);
  std::size_t dropped_ GUARDED_BY(mutex_) = 0;
};

}  // namespace keyagent::link
