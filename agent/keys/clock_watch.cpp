// SPDX-License-Identifier: Apache-2.0
#include "agent/keys/clock_watch.h"

#include <algorithm>

namespace keyagent::keys {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

ClockWatch::ClockWatch(WallTime last_seen, WallTime now, SteadyTime steady)
    : wall_(now), steady_(steady), even_since_(steady) {
  if (last_seen == WallTime{}) return;
  if (now < last_seen - kTolerance) {
    fault_ = "the clock says " + rfc3339(now) + ", but this agent has already seen " +
             rfc3339(last_seen);
  } else if (now > last_seen + kLongestOff) {
    fault_ = "the clock says " + rfc3339(now) + ", this agent last ran at " + rfc3339(last_seen);
  }
}

milliseconds ClockWatch::look(WallTime now, SteadyTime steady) {
  const auto wall_passed = duration_cast<milliseconds>(now - wall_);
  const auto passed = duration_cast<milliseconds>(steady - steady_);
  const auto jump = wall_passed - passed;
  if (jump > kTolerance || jump < -kTolerance) {
    fault_ =
        "the clock jumped by " + std::to_string(jump.count() / 1000) + " s, to " + rfc3339(now);
    even_since_ = steady;
  } else if (!trusted() && steady - even_since_ >= kSettle) {
    fault_.clear();
  }
  wall_ = now;
  steady_ = steady;
  return trusted() ? std::max(milliseconds(0), passed) : milliseconds(0);
}

}  // namespace keyagent::keys
