// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keeps a fault that comes a thousand times from filling the log: one line a topic and interval,
// with the count of the rest.

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/mutex.h"

namespace keyagent {

// Thread-safe. Tracks at most 1,024 topics at once; further topics share one entry, so that callers
// cannot make it grow.
class LogLimiter {
 public:
  explicit LogLimiter(const Clock& clock,
                      std::chrono::milliseconds interval = std::chrono::minutes(1))
      : clock_(clock), interval_(interval) {}

  // May a line about `topic` (a kid and a code, for example) be written now? If so, the count of
  // lines that were withheld since the last one, for its text; nullopt: withhold this one.
  std::optional<std::uint64_t> admit(const std::string& topic);

 private:
  struct Topic {
    SteadyTime last;
    std::uint64_t withheld = 0;
  };

  const Clock& clock_;
  const std::chrono::milliseconds interval_;
  Mutex mutex_;
  std::map<std::string, Topic> topics_ GUARDED_BY(mutex_);
};

}  // namespace keyagent
